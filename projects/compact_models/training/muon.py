"""Muon: a matrix of weights moves by about the orthogonal matrix nearest to its mean gradient.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with the length
of a step of "Muon is Scalable for LLM Training" (arXiv 2502.16982), so that learning rates of AdamW
fit. PyTorch's `torch.optim.Muon` takes matrices alone and computes in bfloat16, which many
processors only emulate; most weights of our models are kernels of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmengine.registry import OPTIMIZERS
from torch import Tensor

# x <- A x + (B xx' + C (xx')^2) x: the coefficients of Jordan et al., fast and only about right.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Matrix with the singular vectors of `matrix` and singular values of about 1.

    Newton-Schulz iteration. Values that are not tiny beside the largest one end between 0.68 and
    1.21 after five steps.

    Args:
        matrix: (M, N) float32.
        steps: how often to iterate, once or more.

    Returns:
        (M, N) float32; zeros stay zeros.
    """
    wide: Tensor = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    rows, columns = wide.shape
    x: Tensor = wide / (wide.norm() + 1e-7)
    if columns < 2 * rows:
        for _ in range(steps):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    else:  # the same product of factors, gathered on the small side: half the time for kernels
        gram = x @ x.T
        factor = _factor(gram)
        product = factor
        for _ in range(steps - 1):
            gram = factor @ gram @ factor
            factor = _factor(gram)
            product = factor @ product
        x = product @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def _factor(gram: Tensor) -> Tensor:
    """What one iteration multiplies x by, from x @ x.T."""
    factor = torch.addmm(gram, gram, gram, beta=B, alpha=C)
    factor.diagonal().add_(A)
    return factor


@OPTIMIZERS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class MuonAdamW(torch.optim.Optimizer):
    """Muon for matrices and for kernels of convolutions, AdamW for all other parameters.

    A kernel (out, in, h, w) counts as the matrix (out, in * h * w). Depthwise kernels, vectors,
    position embeddings and matrices with a short side go to AdamW.

    Args:
        params: parameters, or groups of them with settings of their own.
        lr: learning rate of both; that of AdamW fits.
        weight_decay: of both, apart from the gradient.
        momentum: of Muon's mean gradient (Nesterov).
        betas: of AdamW.
        min_side: shortest side of a matrix that Muon takes.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        min_side: int = 16,
    ) -> None:
        for name, value in (('lr', lr), ('weight_decay', weight_decay)):
            if value < 0:
                raise ValueError(f'{name} must be >= 0, got {value}')
        for name, value in (('momentum', momentum), ('betas[0]', betas[0]), ('betas[1]', betas[1])):
            if not 0 <= value < 1:
                raise ValueError(f'{name} must be in [0, 1), got {value}')
        if min_side < 1:
            raise ValueError(f'min_side must be >= 1, got {min_side}')
        settings = {'momentum': momentum, 'betas': tuple(betas), 'min_side': min_side}
        super().__init__(params, {'lr': lr, 'weight_decay': weight_decay, **settings})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override,unused-ignore]
        """One step of every parameter that has a gradient; the closure's value, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    parameter.mul_(1 - group['lr'] * group['weight_decay'])
                    take = _muon if is_matrix(parameter, group['min_side']) else _adam
                    take(parameter, parameter.grad, self.state[parameter], group)
        return loss


def is_matrix(parameter: Tensor, min_side: int) -> bool:
    """Whether Muon takes a parameter: a matrix or a kernel that is not depthwise."""
    if parameter.ndim not in (2, 4) or parameter.shape[1] == 1:
        return False
    return min(parameter.shape[0], parameter[0].numel()) >= min_side


def _muon(parameter: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state['mean'] = torch.zeros_like(parameter)
    state['mean'].lerp_(grad, 1 - group['momentum'])
    ahead = grad.lerp(state['mean'], group['momentum'])
    move = orthogonalised(ahead.reshape(len(ahead), -1))
    length = 0.2 * max(move.shape) ** 0.5  # elements of about 0.2, as those of AdamW's steps
    parameter.add_(move.reshape(parameter.shape), alpha=-group['lr'] * length)


def _adam(parameter: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state['step'] = 0
        state['mean'], state['square'] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    state['step'] += 1
    first, second = group['betas']
    state['mean'].lerp_(grad, 1 - first)
    state['square'].mul_(second).addcmul_(grad, grad, value=1 - second)
    spread = (state['square'] / (1 - second ** state['step'])).sqrt_().add_(1e-8)
    rate = group['lr'] / (1 - first ** state['step'])
    parameter.addcdiv_(state['mean'], spread, value=-rate)

# The same recipe for all 80 COCO classes: only people are painted, other classes stay targets. The
# weights fit the stock config, which the released detector uses.
#
#   torchrun --nproc_per_node 8 tools/train.py configs/detector/rtmdet-ins_l_insmask_80class.py
_base_ = 'rtmdet-ins_l_insmask_person.py'

model = dict(bbox_head=dict(num_classes=80))

# Class 0 of COCO is the person.
removal = dict(_base_.removal, labels=(0,))
train_pipeline = [*_base_.train_pipeline[:2], removal, *_base_.train_pipeline[3:]]
train_dataloader = dict(dataset=dict(metainfo=dict(_delete_=True), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(metainfo=dict(_delete_=True)))
test_dataloader = val_dataloader

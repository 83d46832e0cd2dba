"""How the embedded compact models were trained."""

"""Pure losses: tensors in, tensors out. They know no model, no config and no task, so that each can be held by hand.

`policy` and `kl` give one value per predicted token, to minimise; `reduction` gives the weight of each token, so that
`(weights * losses).sum()` is the loss of the optimizer step, however the step is cut into minibatches.
"""

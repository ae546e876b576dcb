"""Fine-tuning an image tower against a frozen zero-shot head.

- finetuning.py: the run, step by step
- batches.py, objective.py: what a step reads and minimises
- tower.py, freezing.py, low_rank.py: which parameters learn
- anchoring.py: images that hold the features in place
- train_state.py: a run at rest
- determinism.py, distributed.py: the same bits every time, and several processes
"""

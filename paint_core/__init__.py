"""Patching of open-vocabulary image classifiers as pure functions on tensors.

The numerical library: it loads CLIP models through open_clip, fine-tunes their image tower against a frozen zero-shot
head, interpolates between the weights before and after (PAINT, Ilharco et al., NeurIPS 2022, arXiv 2208.05592) and
chooses the mixing coefficient. It knows no web, database, queue or environment, prints nothing, and changes none of
its arguments. Import from the modules: this package imports nothing itself, so that `paint_core.starter` can be asked
for its paths without loading torch.
"""

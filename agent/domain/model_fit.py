"""Whether a model can do a store's work: it must know every SKU of the planogram, and people."""

from collections.abc import Iterable, Sequence

from agent.domain.detection import PERSON


def missing_classes(names: Sequence[str], skus: Iterable[str]) -> tuple[str, ...]:
    """What a model with these class ``names`` lacks, sorted; empty when it fits. Without ``person`` it
    could not tell a shopper in front of a shelf from an empty shelf."""
    return tuple(sorted({*skus, PERSON} - set(names)))


def describe_misfit(names: Sequence[str], skus: Iterable[str]) -> str | None:
    """The misfit in words for an operator, or None when the model fits."""
    missing = missing_classes(names, skus)
    if not missing:
        return None
    shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
    return (
        f"the model does not know {shown}; release a model trained on this planogram, "
        "or take what it does not know out of the planogram"
    )

"""What each knowledge compares, in one sentence with the numbers of a plan."""

from __future__ import annotations

from collections.abc import Callable

from gkd_plugin.config.draft import show
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space import axes

NODES = {"all": "all nodes", "train": "training nodes", "unlabeled": "nodes outside the training mask"}


def _structure(group: GroupPlan) -> str:
    loops = " and itself" if group["self_loops"] else ""
    direction = "out" if group.get("softmax_over") == "out_edges" else "in"
    neighbours = {
        "edges": f"its {direction}-neighbours{loops}",
        "union": f"its {direction}-neighbours in either graph{loops}",
        "train_edges": f"its {direction}-neighbours among training nodes{loops}",
        "all_pairs": f"{_drawn(group)}{'' if loops else ' but itself'}",
    }[group["domain"]]
    gap = axes.divergences[group["divergence"]].summary.split(",")[0]
    over = {"node_mean": "mean over nodes", "pair_mean": "mean over pairs", "sum": "sum over pairs"}[group["reduction"]]
    text = f"{gap} of each node's softmax over {neighbours}, {over}"
    if group["distribution"] == "none":
        text = f"squared difference of kernel values between each node and {neighbours}, {over}"
    kernel = axes.kernels[group["kernel"]]
    text += f"; {group['kernel']} kernel {kernel.summary.split(';')[0]}"
    if "kernel_scale" in group.values:
        text += f", s = {show(group['kernel_scale'])}"
    text += {"l2": "; rows of length 1", "batchnorm": "; rows batch-normalised"}.get(group["normalize"], "")
    factor = group.get("non_edge_weight", 1.0)
    return text if factor == 1 else f"{text}; differences where there is no edge times {show(factor)}"


def _drawn(group: GroupPlan) -> str:
    return "all nodes" if group.get("samples") is None else f"all of {group['samples']} nodes drawn in each step"


def _feature(group: GroupPlan) -> str:
    names = {
        "mse": "squared difference",
        "cosine": "1 - cosine",
        "smooth_l1": "smooth L1 distance",
        "attention": "squared difference of node energies |x_v|^2 (scaled to length 1)",
    }
    over = "nodes" if group["loss"] in ("attention", "cosine") else "nodes and channels"
    text = f"{group['reduction']} over {over} of the {names[group['loss']]}"
    if "projector_side" in group.values:
        side = "of both sides" if group["projector_side"] == "both" else "of the learner"
        width = f" to {group['dim']} channels" if "dim" in group.values else " to the source's width"
        kind = "linear where widths differ" if group["projector"] == "auto" else group["projector"]
        text += f"; rows {side} projected ({kind}){'' if group['projector'] == 'auto' else width}"
    text += {"l2": ", then scaled to length 1", "batchnorm": ", then batch-normalised"}.get(group["normalize"], "")
    pooled = ", averaged over nodes first" if group["pool"] == "mean" else ""
    return f"{text}; {NODES[group['nodes']]}{pooled}"


def _response(group: GroupPlan) -> str:
    tau, sharpen, hard = group.get("temperature", 1.0), group.get("sharpen", 1.0), group.get("target") == "hard"
    by, of = ("" if scale == 1 else f"/{show(scale)}" for scale in (tau, tau * sharpen))
    front = "" if tau == 1 else f"{show(tau * tau)} · "
    texts = {
        "kl": f"{front}KL(softmax(t{of}) || softmax(z{by})) of the source's logits t, batch mean",
        "bce_soft": f"{front}BCE(z{by}, sigmoid(t{of})) with the source's logits t",
        "bce_hard": "BCE(z, [t > 0]) with the source's logits t",
        "mse": "squared difference of logits",
        None: f"kl for several classes, bce_soft for two classes as one logit (the data tell); temperature {show(tau)}",
    }
    if hard:
        texts["kl"] = f"{front}CE(z{by}, the class of the source's largest logit)"
        texts["bce_soft"] = f"{front}BCE(z{by}, [t > 0]) with the source's logits t"
        texts[None] += ", hard targets"
    elif sharpen != 1:
        texts[None] += f", targets sharpened by {show(sharpen)}"
    text = f"{texts[group['loss']]}; {NODES[group['nodes']]}"
    if group.get("confidence", 0.0) > 0:
        text += f" of which the source is at least {show(group['confidence'])} sure"
    weighed = {"confidence": "the source's largest probability", "entropy": "1 - the source's entropy / the largest"}
    by_what = weighed.get(group.get("node_weight", "none"))
    return f"{text}, each node weighed by {by_what} (mean 1)" if by_what else text


def _contrast(group: GroupPlan) -> str:
    text = f"cross-entropy of finding each node among {group['samples']} of the source's by cosine"
    text += f" / {show(group['temperature'])}"
    if group["projector"] == "none":
        return text
    return f"{text}; both sides projected ({group['projector']}, {group['dim']} channels)"


def _generic(group: GroupPlan) -> str:
    kind = axes.knowledge[group.name]
    own = ", ".join(f"{key.name} {show(group.values[key.name])}" for key in kind.keys if key.name in group.values)
    return f"{kind.summary}{f' ({own})' if own else ''}"


_WORDS: dict[str, Callable[[GroupPlan], str]] = {
    "structure": _structure,
    "feature": _feature,
    "response": _response,
    "contrast": _contrast,
}


def in_words(group: GroupPlan) -> str:
    """What a group compares and how; a third party's by its summary and keys."""
    return _WORDS.get(group.name, _generic)(group)

"""Routing, candidates and calibration as loops over pairs that encode everything anew: what evaluation must give."""

from lpi.continual.calibration import LEAST_GAP
from lpi.data.stream import MODALITIES
from lpi.metrics import hit_ranks

import numpy as np
import torch
from sklearn.covariance import OAS


def naive_precision(training, keys):
    """The inverse of scikit-learn's covariance of all deviations of the features from their nearest centres."""
    rows = []
    for own, of_task in zip(training, keys, strict=True):
        centres = of_task.centres.astype(np.float64)
        rows += [point - min(centres, key=lambda c, p=point: np.square(p - c).sum()) for point in own]
    return OAS(assume_centered=True).fit(np.array(rows)).precision_


def naive_distance(query, keys, precision):
    """To the nearest centre, by the precision or, where there is none, as l1."""
    gaps = query.astype(np.float64) - keys.centres.astype(np.float64)
    return min(np.abs(gap).sum() if precision is None else gap @ precision @ gap for gap in gaps)


def naive_candidates(gallery, training, routing, modality, last, known):
    """The tasks, likeliest first, of the items of tasks 0..last, from the keys of the first `known` tasks."""
    keys, precision = routing.keys[modality][:known], None
    if routing.metric == "mahalanobis":
        precision = naive_precision([own[modality] for own in training[:known]], keys)
    chosen = []
    for row in np.flatnonzero(gallery.task[modality] <= last):
        distances = [naive_distance(gallery.frozen[modality][row], own, precision) for own in keys]
        true = int(gallery.task[modality][row])
        count = routing.candidates if modality == "image" and not routing.oracle else 1
        nearest = np.argsort(distances, kind="stable")[:count].tolist()
        chosen.append([true] if routing.oracle and true < known else nearest)
    return chosen


def naive_encodings(gallery, training, routing, tasks):
    """What has to be encoded along the stream: modality, item and task, each once."""
    wanted = set()
    for modality in MODALITIES:
        for after in range(tasks):
            candidates = naive_candidates(gallery, training, routing, modality, after, after + 1)
            wanted |= {(modality, row, task) for row, tasks in enumerate(candidates) for task in tasks}
    return wanted


def naive_scores(method, normalise, gallery, training, routing, similarities, last, known):
    """(images, captions) of tasks 0..last: pair by pair, both items encoded for it alone."""
    tasks = {m: naive_candidates(gallery, training, routing, m, last, known) for m in MODALITIES}
    prompts = [method.fingerprint(task) for task in range(known)]
    scores = np.empty((len(tasks["image"]), len(tasks["text"])))
    for image, candidates in enumerate(tasks["image"]):
        pixels = normalise(torch.from_numpy(gallery.data.images[image : image + 1]))
        for caption, (own,) in enumerate(tasks["text"]):
            under = own if own in candidates else candidates[0]
            tokens = torch.from_numpy(gallery.data.tokens[caption : caption + 1]).long()
            with torch.no_grad():
                score = float((method.encode_image(pixels, under) @ method.encode_text(tokens, own).T).item())
            if routing.calibrate and len(set(prompts)) > 1:
                same = [similarities[task] for task in range(known) if prompts[task] == prompts[under]]
                other, matching = np.mean([one.other for one in same]), np.mean([one.matching for one in same])
                score = (score - other) / max(matching - other, LEAST_GAP)
            scores[image, caption] = score
    return scores


def naive_ranks(gallery, scores):
    """Direction -> ranks of all queries."""
    owners = gallery.data.owners[: scores.shape[1]]
    i2t = hit_ranks(scores, [np.flatnonzero(owners == image) for image in range(len(scores))])
    return {"i2t": i2t, "t2i": hit_ranks(scores.T, [[owner] for owner in owners])}

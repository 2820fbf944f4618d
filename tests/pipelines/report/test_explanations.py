from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.report import explanations
from pipelines.report.cache import Cache
from pipelines.report.network import Network, pull
from study.data import Dataset
from study.images import Labelled, normalise
from study.probes.circuit import background as background_of
from study.selection import select_image
from tests.conftest import Finished


@pytest.fixture
def network(finished_study: Finished) -> Network:
    store = finished_study.context.store
    return pull(store, store.get(finished_study.retrained["cnn"]), finished_study.dataset.classes)


def test_a_decision_is_over_the_runner_up_unless_a_rival_is_given(network: Network, tiny: Dataset):
    image = select_image(tiny, "test:12")
    logits = network.model(network.last)(normalise(image.image[None]))[0].detach().numpy()
    predicted, other = int(logits.argmax()), int(logits.argmin())

    by_default = explanations.decision(network, image, tiny.train)
    against = explanations.decision(network, image, tiny.train, other)

    expected = logits[np.arange(len(logits)) != predicted].max() if image.label == predicted else logits[image.label]
    assert by_default.margin == pytest.approx(logits[predicted] - expected, abs=1e-5)
    assert (against.chosen, against.rival) == (predicted, other)
    assert against.margin == pytest.approx(logits[predicted] - logits[other], abs=1e-5)


def test_the_explorers_shares_sum_to_the_margin_less_its_mean_at_every_epoch(network: Network, tiny: Dataset):
    images = [select_image(tiny, "test:12"), select_image(tiny, "train:3")]

    shares = explanations.explorer_shares(network, images, tiny.train)

    assert shares is not None
    background = background_of(tiny.train)
    for place, epoch in enumerate(sorted(network.files)):
        model = network.model(epoch)
        for number, ((a, b), image) in enumerate(zip(shares.pairs, images, strict=True)):
            logits, mean = (model(normalise(batch)).mean(0).detach() for batch in (image.image[None], background))
            margin = float(logits[a] - logits[b])
            assert shares.margins[place, number] == pytest.approx(margin, abs=1e-4)
            explained = margin - float(mean[a] - mean[b])
            assert shares.of_filters[place, number].sum() == pytest.approx(explained, abs=1e-3)


def test_a_single_class_has_no_shares_in_a_margin(network: Network, tiny: Dataset):
    alone = replace(network, classes=("only",))
    assert explanations.explorer_shares(alone, [select_image(tiny, "train:3")], tiny.train) is None


def test_the_shares_of_confusions_sum_to_each_images_logits_less_their_mean(
    network: Network, tiny: Dataset, tmp_path: Path
):
    shares = explanations.confusion_shares(network, tiny.test, tiny.train, Cache(tmp_path))

    model, background = network.model(network.last), background_of(tiny.train)
    logits, mean = (model(normalise(images)).detach().numpy() for images in (tiny.test.images, background))
    assert np.allclose(shares.sum(axis=1), logits - mean.mean(axis=0), atol=1e-3)


def test_training_images_equal_to_the_image_under_study_are_left_out_and_not_counted(network: Network, tiny: Dataset):
    images, labels = tiny.train.images[:30].clone(), tiny.train.labels[:30]
    images[7] = images[3]
    train = Labelled(images, labels)
    image = select_image(tiny, "train:3")

    influence = explanations.influence(network, image, train)

    assert influence.rows.tolist() == [row for row in range(30) if row not in (3, 7)]
    assert influence.of == len(influence.rows) == len(influence.scores) == len(influence.similarity)
    assert torch.equal(torch.from_numpy(influence.images[3]).permute(2, 0, 1), images[4])

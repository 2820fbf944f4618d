"""Stage 3, `study analyse`: a retrained run's artifacts to tables, figures and a report, logged back to it.

Everything about the run comes through MLflow, so its store may be on another machine; the data set is needed for
figures that are measured on images. The report names the figures that it lacks, and shows the others.
"""

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import torch

from analysis.drawing.names import numbered_notice, readable, readable_names
from analysis.drawing.wording import counted
from analysis.page import Section
from pipelines.config import AnalysisConfig
from pipelines.report import cache, figures, layers, needs
from pipelines.report.exhibits import ONLY, Report
from pipelines.report.inputs import inputs_hash
from pipelines.report.material import Material
from pipelines.report.network import Network, pull
from pipelines.report.page import page_command, publish, record, write_page
from pipelines.session.context import Context
from pipelines.session.ties import say_ties
from study.architectures import CustomConfig
from study.config import DataConfig
from study.data import Dataset
from study.errors import StudyError
from study.selection import SelectedImage, select_image
from study.sources.image_folder import read_image
from study.system import interruption
from study.system.debugging import show_if_debugging
from study.tracking import best
from study.tracking.runs import Run


@dataclass(frozen=True)
class Analysis:
    """The result of an analysis."""

    page: Path
    missing: tuple[str, ...]
    """What the page lacks and why, a line each."""


@dataclass(frozen=True)
class _Loaded:
    """The data set and the image under study, as far as they could be loaded."""

    data: Dataset | None = None
    image: SelectedImage | None = None
    """The image under study."""
    reason: str = ""
    """Why the data set is missing."""

    def with_names(self, names: Mapping[str, str]) -> "_Loaded":
        """A copy with the class names that figures show."""
        data, image = self.data, self.image
        if data:
            if image and image.label is not None:
                name = data.classes[image.label]
                place = image.description.removesuffix(f" ({name})")
                image = replace(image, description=f"{place} ({names.get(name, name)})")
            data = replace(data, classes=_display_names(data.classes, names))
        if image:
            image = replace(image, description=readable(image.description))
        return replace(self, data=data, image=image)


def analyse(
    spec: str,
    config: AnalysisConfig,
    context: Context,
    data: DataConfig | Dataset | None = None,
    *,
    again: bool = False,
) -> Analysis:
    """Writes the report of the run that `spec` names, and logs it to the run.

    Args:
        spec: see `best.choose_retrained`.
        config: which figures to make, and their settings.
        context: the stores, the machine and the display.
        data: the data set, or the settings to load it, on which `best` is chosen and figures are measured; by default
            that of the run, for `best` that of the latest run.
        again: whether to draw everything again and recompute what is cached, even if nothing has changed.

    Raises:
        StudyError: for an unknown run, one without anything to show, an unknown image, layer, filter or figure,
            or a report folder that cannot be written.
    """
    figures.require_possible(config.only)
    loaded = context.load(data) if isinstance(data, DataConfig) else data
    known = (loaded.key, loaded.config) if loaded else (None, None)
    run = best.choose_retrained(context.store, spec, *known)
    say_ties(spec, run, context.store, context.display.say)
    material, names, missing = _material(run, config, loaded, context, again=again)
    config = material.config
    folder = f"{run.dataset_key}-{run.model}-{run.id[:8]}"
    report = Report(context.report_folder(f"{folder}/{ONLY}" if config.only else folder), names)
    chosen = figures.chosen(material, config.only)
    command = page_command(material.network, config, context.where, loaded.config if loaded else None)
    inputs = inputs_hash(material, names, command)
    current = None if again else report.missing_from_current(inputs)
    notices = list(filter(None, [numbered_notice(names), *layers.notices(material)]))
    if current is None:
        # Drawing takes minutes, which are lost to a user who may not record.
        context.store.writable(run.dataset_key)
        parts, left_out = _draw(chosen, material, report, context)
        missing = [line for line in missing if line not in left_out]
        missing += [f"Left out: {', '.join(names)}. {reason}" for reason, names in left_out.items()]
        if not parts:
            raise StudyError(f"Nothing can be shown. {' '.join(missing)}")
        write_page(report, parts, material, [*missing, *notices], command)
        record(material, context)
        report.finish(inputs, missing)
    else:
        missing = list(current)
        context.display.say("Nothing has changed since this report was made; --again draws it once more.")
    return Analysis(publish(report, material, [*missing, *notices], context), tuple(missing))


def _material(
    run: Run, config: AnalysisConfig, loaded: Dataset | None, context: Context, *, again: bool
) -> tuple[Material, dict[str, str], list[str]]:
    """What the report is made of, the class names that it shows, and what the networks lack."""
    shown = layers.choose(config, run.train_config.model, _number_of_classes(run, loaded, context), run.image_size)
    rows = figures.rows_of(run.train_config.model, shown.maps)
    config = replace(config, only=figures.names_of(config.only, rows))
    images = _images(config, run, loaded, context, rows)
    network = pull(context.store, run, images.data.classes if images.data else ())
    networks, missing = _with_other(network, context)
    names = readable_names(network.classes)
    networks = {name: replace(other, classes=_display_names(other.classes, names)) for name, other in networks.items()}
    images = images.with_names(names)
    material = Material(
        network=networks[network.name],
        networks=networks,
        filters=shown.filters,
        dataset=images.data,
        selected=images.image,
        no_images=images.reason,
        config=config,
        device=context.machine.device,
        where=context.where,
        cache=cache.Cache(context.home.reports / cache.FOLDER, again),
    )
    return material, names, missing


def _number_of_classes(run: Run, loaded: Dataset | None, context: Context) -> int:
    """The number of classes of a run, on which the layers of the report's networks do not depend."""
    if not isinstance(run.train_config.model, CustomConfig):
        return 1
    return len(loaded.classes if loaded else context.store.classes(run.id))


def _display_names(classes: tuple[str, ...], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(names.get(name, name) for name in classes)


def _needs_images(config: AnalysisConfig, rows: Collection[figures.Figure]) -> bool:
    """Whether a chosen figure needs the data set or the image under study, or chooses a filter on them."""
    needed = {needs.DATASET, needs.IMAGE} | ({needs.FOLLOWED} if config.filter is None else set())
    chosen = (figure for figure in rows if not config.only or figure.name in config.only)
    return any(needed & set(figure.needs) for figure in chosen)


def _images(
    config: AnalysisConfig, run: Run, loaded: Dataset | None, context: Context, rows: Collection[figures.Figure]
) -> _Loaded:
    """The run's data set and the image under study, as far as they are needed and can be loaded."""
    if not _needs_images(config, rows):
        return _Loaded()
    path = Path(config.image).expanduser()
    image = None
    if config.image and path.is_file():
        image = SelectedImage(torch.from_numpy(read_image(path, run.image_size)), None, config.image)
    try:
        data = context.images_of(run, loaded)
    except StudyError as error:
        show_if_debugging(error)
        return _Loaded(image=image, reason=str(error))
    return _Loaded(data, select_image(data, config.image))


def _with_other(network: Network, context: Context) -> tuple[dict[str, Network], list[str]]:
    """The network, with the other model's best run if that is retrained; and what is missing of either."""
    networks, missing = {network.name: network}, list(network.missing)
    model, dataset = "ffnn" if network.name == "cnn" else "cnn", network.run.dataset_key
    try:
        run = best.best_retrained(context.store, model, dataset)
    except StudyError as error:
        context.display.say(f"The {network.name} is shown alone. {error}")
        return networks, missing
    try:
        networks[model] = other = pull(context.store, run, network.classes)
        missing += other.missing
    except StudyError as error:
        show_if_debugging(error)
        missing.append(f"The {network.name} is shown alone. {error}")
    return dict(sorted(networks.items())), missing


def _draw(
    chosen: Sequence[figures.Figure], material: Material, report: Report, context: Context
) -> tuple[dict[str, list[Section]], dict[str, list[str]]]:
    """Draws the figures; returns the sections by part of the page, and the names of those left out by reason."""
    parts: dict[str, list[Section]] = {}
    left_out: dict[str, list[str]] = {}
    done = 0
    with context.display.bar(f"analysing {material.network.name}", len(chosen)) as bar, frozen_objects():
        for part, in_part in groupby(chosen, key=attrgetter("part")):
            for figure in in_part:
                interruption.check()
                bar.note(figure.name.replace("_", " "))
                try:
                    sections = [report.add(exhibit) for exhibit in figures.exhibits(figure, material)]
                    parts.setdefault(part, []).extend(sections)
                except StudyError as error:
                    show_if_debugging(error)
                    left_out.setdefault(str(error), []).append(figure.name)
                bar.advance()
                done += 1
            context.display.say(f"figures {done}/{len(chosen)}: {part}")
    context.display.say(f"{counted(len(chosen) - sum(map(len, left_out.values())), 'figure')} drawn.")
    return {part: sections for part, sections in parts.items() if sections}, left_out


@contextmanager
def frozen_objects() -> Iterator[None]:
    """Keeps the objects that there are out of garbage collection: of figures many are left, of imports none."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

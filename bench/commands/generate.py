"""Commands that draw pictures and measure them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import get_args

import click

from segscale.catalogue import shipped_folder
from segscale.errors import UserError

from ..generation.choices import CAPTIONS, GuidanceMethod, GuidanceReading, Networks, SamplingChoices, ScalingQuestion
from ..runs.launcher import is_rank_zero
from ..runs.options import RunOptions
from . import options
from .command import Option, command
from .parameters import NATURAL, NUMBER, POSITIVE, WIDTH, Name, Place
from .steps import print_written, quiet_libraries

PUBLISHED = str(shipped_folder("results") / "paper-power.csv")
_picture = partial(click.option, cls=Option, heading="Pictures")
# How a guidance method works and pictures are drawn, for commands that choose methods and scales in their own way.
drawing = options.chained(
    _picture(
        "--guidance-reading",
        type=click.Choice(get_args(GuidanceReading)),
        help="whose rules make the segments of s-cfg and goca-s-cfg",
        show_default="published",
    ),
    _picture("--guidance-site", help="block that is blurred", show_default="the one that segments best alone"),
    _picture("--guidance-width", type=WIDTH, help="of its blur, as a share of the side, or inf", show_default="0.1"),
    _picture("--steps", type=POSITIVE, help="inference steps", show_default="the backbone's"),
    _picture("--shared-noise", is_flag=True, help="start all pictures at the same noise, not each at its own"),
    _picture("--size", type=POSITIVE, help="side in pixels", show_default="the backbone's"),
    options.packed("choices", SamplingChoices),
)
sampling = options.chained(
    _picture("--guidance", type=NUMBER, help="scale; 1: none", show_default="the backbone's"),
    _picture("--guidance-method", type=click.Choice(get_args(GuidanceMethod)), default="cfg"),
    drawing,
)
networks = options.chained(
    click.option("--inception", type=options.FILE, metavar="FILE", help="TorchScript of the FID's network"),
    click.option("--clip", metavar="FOLDER", help="CLIP model of transformers, for the CLIP score"),
    options.packed("networks", Networks),
)
_examples = ["segscale generate pocket-sd15 --limit 4", "segscale generate pocket-sd3 --limit 4 --guidance 5 --batch 4"]


@command(resumes=True, examples=_examples)
@options.backbone
@click.option("--dataset", "dataset_name", type=Name("dataset"), show_default="pocket", help="whose captions are drawn")
@click.option("--prompts", type=options.FILE, metavar="FILE", help="one prompt per line, instead of captions")
@sampling
@options.picture_batch
@options.text_cache
@options.images
def generate(
    backbone_name: str,
    dataset_name: str | None,
    prompts: Path | None,
    choices: SamplingChoices,
    run_options: RunOptions,
) -> None:
    """Draw a picture for every caption of a dataset, or for every line of a file."""
    from ..generation.pictures import draw_pictures
    from ..generation.prompts import captions_of_dataset, prompts_of_file
    from ..generation.settings import sampling_settings

    quiet_libraries()
    if prompts is not None and (dataset_name or run_options.dataset_arguments):
        problem = "prompts of a file take no dataset and none of its options"
        raise UserError(problem, "leave out --dataset, --split, --data-root and --captions")
    asked = prompts_of_file(prompts) if prompts else captions_of_dataset(dataset_name or "pocket", run_options)
    settings = sampling_settings(backbone_name, choices, run_options.seed)
    pictures = draw_pictures(backbone_name, asked, settings, run_options)
    if is_rank_zero():
        print_written(pictures.folder)


@command(resumes=True, examples=["segscale power pocket-sd3 --limit 20 --batch 10"])
@options.backbone
@options.name("dataset", CAPTIONS, help="whose captions are drawn")
@networks
@sampling
@options.picture_batch
@options.text_cache
@options.images
def power(
    backbone_name: str, dataset_name: str, networks: Networks, choices: SamplingChoices, run_options: RunOptions
) -> None:
    """Measure generative power: fidelity to captions and Frechet distance, with 95 % intervals."""
    from ..generation.power import draw_to_measure
    from ..generation.power_record import write_power
    from ..generation.power_tables import power_text
    from ..generation.settings import sampling_settings

    quiet_libraries()
    settings = sampling_settings(backbone_name, choices, run_options.seed)
    drawn = draw_to_measure(backbone_name, dataset_name, settings, networks, run_options)
    if is_rank_zero():
        stored = drawn.measured(networks)
        print(power_text(stored.record))
        print_written(write_power(run_options.results, stored))


@command(examples=["segscale scaling", "segscale scaling --published --dataset voc --protocol goca"])
@options.name("dataset", "pocket", help="of the runs")
@options.name("protocol", "standard", help="of the runs")
@options.names("method", "vanilla,goca")
@click.option(
    "--published",
    type=options.FILE,
    metavar="[FILE]",
    is_flag=False,
    flag_value=PUBLISHED,
    help="published power instead of measured; FILE holds it, the package's own if it is not given",
)
@click.option("--split", help="of the runs", show_default="the only one")
@click.option("--seed", type=NATURAL, help="of the noise of runs and of pictures", show_default="the only one")
@click.option(
    "--earlier",
    type=Place(),
    metavar="FOLDER",
    help="with an earlier power-replicates.parquet, whose backbones are added to those with runs here",
)
@options.packed("question", ScalingQuestion)
@options.results
def scaling(question: ScalingQuestion, published: Path | None, earlier: Path | None, results: Path) -> None:
    """Tell whether mIoU grows with generative power: table, figure and rank correlations with 95 % intervals."""
    from ..generation.configuration_replicates import by_configuration
    from ..generation.correlations import statistics
    from ..generation.scaling_files import write_scaling
    from ..generation.scaling_sources import gather
    from ..generation.scaling_tables import statistics_text

    resampled = gather(question, results, published, earlier)
    numbers = statistics(by_configuration(resampled.backbones))
    print(statistics_text(numbers))
    print_written(*write_scaling(resampled, numbers, results))

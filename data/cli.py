"""`ovs-data`: what is in a folder of labelled photos, and any format of labels into the one that training reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..bundle.errors import UsageError, require
from ..runtime.command_line import run_command

if TYPE_CHECKING:
    from .formats.label_format import FormatSet, LabelFormat

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True, help=__doc__
)

_Source = Annotated[Path, typer.Argument(metavar="PATH", help="Folder with photos and their labels.")]
_From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Format of the labels, where it is not recognised: labelme, yolo, coco, colour-masks, binary-masks, cvat, "
        "supervisely, published.",
    ),
]
_Names = Annotated[
    Path | None,
    typer.Option(
        "--names",
        help="File of lines `name: new name` (nothing after the colon drops a class); for colour masks `name: r,g,b`.",
    ),
]
_Complete = Annotated[
    bool,
    typer.Option(
        "--complete",
        help="Every object of the classes is labelled: pixels without a label are none of them, not unknown.",
    ),
]


@app.command()
def inspect(
    source: _Source,
    label_format: _From = None,
    names: _Names = None,
    *,
    complete: _Complete = False,
) -> None:
    """Tell the format, photos, classes, pixels of each class, and what is wrong; exit code 1 if something is."""
    require("PIL", "masks")
    from rich.console import Console
    from rich.table import Table

    from .formats.inspection import inspect_photos

    opened, photos = _open(source, label_format, names, complete=complete)
    with _progress(len(photos.photos)) as advance:
        found = inspect_photos(photos, opened, advance)
    console = Console(soft_wrap=True, highlight=False)
    splits = ", ".join(f"{count} in {split}" if split else f"{count}" for split, count in found.photos.items())
    console.print(f"{source}: {opened.title}; photos: {splits or 'none'}; {len(found.classes)} classes", markup=False)
    table = Table("class", "photos", "pixels", "share of labels")
    total = max(1, sum(entry.pixels for entry in found.classes))
    for entry in found.classes:
        table.add_row(entry.name, str(entry.photos), str(entry.pixels), f"{entry.pixels / total:.2%}")
    console.print(table)
    sizes = ", ".join(f"{size} ({count})" for size, count in found.sizes[:5])
    more = f" and {len(found.sizes) - 5} more" if len(found.sizes) > 5 else ""
    console.print(
        f"not labelled {found.unlabelled - found.background:.1%} of all pixels, known to be none of the classes "
        f"{found.background:.1%}; sizes: {sizes or 'none'}{more}; turned by their EXIF note: {found.turned}",
        markup=False,
    )
    wrong = [
        *(f"no pixel of {name}" for name in found.absent),
        *(f"the same photo: {names}" for names in found.duplicates),
        *found.problems,
    ]
    for line in wrong:
        console.print(f"problem: {line}", markup=False)
    if wrong:
        raise typer.Exit(1)


@app.command()
def convert(
    source: _Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    label_format: _From = None,
    names: _Names = None,
    split: Annotated[
        float, typer.Option(help="Share of the photos that goes to train, where the source knows no splits.")
    ] = 0.9,
    layout: Annotated[
        str, typer.Option("--to", help="Layout to write: masks (index masks) or coco-panoptic (objects told apart).")
    ] = "masks",
    stuff: Annotated[
        str, typer.Option(help="With --to coco-panoptic: classes whose objects are not told apart, such as sky,grass.")
    ] = "",
    *,
    complete: _Complete = False,
) -> None:
    """Write what `ovs-train --data` reads: by default classes.json, images/, masks/ and, where known, background/."""
    require("PIL", "masks")
    from .folders import told
    from .formats.convert import ConvertOptions
    from .formats.convert import convert as write

    if not 0 <= split <= 1:
        raise UsageError(f"--split is {split:g}, expected a share from 0 to 1")
    opened, photos = _open(source, label_format, names, complete=complete)
    with _progress(len(photos.photos)) as advance:
        named = tuple(name.strip() for name in stuff.split(",") if name.strip())
        done = write(source, opened, photos, output, ConvertOptions(layout, split, named), advance)
    for reason in told(done.skipped, 10):
        print(f"left out: {reason}")
    for name, count in zip(done.classes, done.pixels, strict=True):
        if not count:
            print(f"no pixel of {name}")
    if done.background_lost:
        print(
            f"{done.background_lost:.0%} of the pixels without a label are known to be none of the classes, which "
            "coco-panoptic cannot tell; --to masks can"
        )
    print(
        f"wrote {output} from {opened.title}: {done.photos['train']} photos in train, {done.photos['val']} in val, "
        f"{len(done.classes)} classes, {len(done.skipped)} left out"
    )


@app.command()
def preview(
    source: _Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write, .jpg or .png.")],
    label_format: _From = None,
    names: _Names = None,
    photos: Annotated[int, typer.Option(min=1, max=400, help="Photos on the sheet.")] = 12,
    *,
    complete: _Complete = False,
) -> None:
    """Write a contact sheet of photos with their labels over them."""
    require("PIL", "masks")
    from ..bundle.files import refuse_other_file, replacing
    from ..runtime.opencv import cv2
    from ..runtime.sinks.output_files import MARK, marked
    from .formats.preview import contact_sheet

    if output.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise UsageError(f"-o is {output}, expected a name that ends in .jpg or .png")
    refuse_other_file(output, MARK.encode())
    opened, found = _open(source, label_format, names, complete=complete)
    written, data = cv2.imencode(output.suffix.lower(), contact_sheet(found, opened, photos))
    assert written
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as work:
        work.write_bytes(marked(data.tobytes(), output.suffix.lower()))
    print(f"wrote {output}")


def _open(
    source: Path, label_format: str | None, names: Path | None, *, complete: bool
) -> tuple[LabelFormat, FormatSet]:
    """The format of a folder, and its photos."""
    from .formats.label_format import ReadOptions, read_names
    from .formats.registry import find_format

    opened = find_format(source, label_format)
    options = ReadOptions({} if names is None else read_names(names), complete)
    return opened, opened.read(source, options)


@contextmanager
def _progress(photos: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; it is advanced by a call for each photo."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:  # rich before 14.1 ends a bar that is not shown with a line break
        yield lambda: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("photos", total=photos)
        yield lambda: bar.advance(task)


def main() -> None:
    """Console entry point."""
    run_command(app)


if __name__ == "__main__":
    main()

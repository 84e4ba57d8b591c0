"""``imgret models``: list, download, check, measure, describe and bundle model files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from imgret.cli import options
from imgret.cli.help import Argument, Group

__all__ = ["models"]


@click.group(cls=Group, no_args_is_help=False)
def models() -> None:
    """List, download, check, measure and bundle models."""


@models.command("list")
@options.json
def list_models(*, json_: bool) -> None:
    """List the built-in models.

    imgret models list
    """
    from imgret.models import available  # noqa: PLC0415

    bundles = available()
    width = max(map(len, bundles), default=0)
    for name, bundle in bundles.items():
        facts = {
            "name": name,
            "kind": bundle.kind,
            "version": bundle.version,
            "dim": bundle.dim,
            "size": bundle.input.size,
            "precision": bundle.precision,
            "licence": bundle.licence,
        }
        click.echo(
            json.dumps(facts)
            if json_
            else f"{name:<{width}}  {bundle.kind}, {f'{bundle.dim}-d, ' if bundle.dim else ''}"
            f"{bundle.input.size} px, {bundle.precision}, {bundle.licence}"
        )


@models.command("get")
@click.argument(
    "model", cls=Argument, required=False, help="A name, or hf:owner/name. [list the names]"
)
@click.option("--variant", help="fp16, quantized, int8 or another that is there.")
@click.option("-o", "--output", type=options.PATH, help="Folder. [one of the model's name]")
@click.option("--revision", help="Branch, tag or commit.")
@click.option("--dry-run", is_flag=True, help="Only print the sizes.")
@options.json
def get_model(
    *,
    model: str | None,
    variant: str | None,
    output: Path | None,
    revision: str | None,
    dry_run: bool,
    json_: bool,
) -> None:
    """Download a model from Hugging Face.

    imgret models get
    imgret models get clip-vit-base-patch32 --variant fp16

    Without a name, the known models are listed. Afterwards `--embedder NAME` finds the model. An
    interrupted download continues where it stopped. Apart from this, only images at addresses
    (https://, s3://) are read from the network.
    """
    from imgret.models import hub  # noqa: PLC0415

    if model is None:
        for name, known in hub.KNOWN.items():
            reads = "images and text" if known.reads_text else "images"
            facts = {**asdict(known), "name": name}
            click.echo(
                json.dumps(facts)
                if json_
                else f"{name:<25} {known.dim:>4}-d, {reads}, {known.licence}; {known.figure}"
            )
        return
    download = hub.look(model, variant=variant, revision=revision, folder=output)
    for file, size in download.files.items():
        click.echo(f"{size / 1e6:>9.1f} MB  {file}", err=True)
    click.echo(
        f"{download.total / 1e6:>9.1f} MB from {download.repository} "
        f"({download.revision[:10]}, {download.licence}) into {download.folder}",
        err=True,
    )
    if not dry_run:
        hub.fetch(download)
    if json_:
        facts = {"name": download.name, "folder": str(download.folder)}
        facts |= {"repository": download.repository, "revision": download.revision}
        click.echo(json.dumps({**facts, "bytes": download.total, "licence": download.licence}))
    elif not dry_run:
        where = download.name if output is None else str(download.folder)
        click.echo(f"imgret index FOLDER -o photos.imgret --embedder {where}")


@models.command("check")
@click.argument("which", cls=Argument, nargs=-1, help="Names or paths. [all built-in ones]")
@options.json
def check_models(*, which: tuple[str, ...], json_: bool) -> None:
    """Check that models give the expected output.

    imgret models check
    imgret models check mine.onnx

    Exits with 3 if one does not.
    """
    from imgret.models import available, check  # noqa: PLC0415

    bad = 0
    for model in which or list(available()):
        result = check(model)
        verdict = "ok" if result.ok else "DIFFERENT"
        facts = {"model": model, "ok": bool(result.ok), "cosine": float(result.cosine)}
        click.echo(
            json.dumps({**facts, "cosine_at_least": result.cosine_at_least})
            if json_
            else f"{model}: {verdict}, cosine {result.cosine:.4f} (at least "
            f"{result.cosine_at_least})"
        )
        bad += not result.ok
    if bad:
        raise click.exceptions.Exit(3)


@models.command("bench")
@click.argument(
    "model", cls=Argument, help="Name of an embedder, an ONNX file or a model's folder."
)
@click.option("--batch", help="Batch sizes, such as 1,8,32. [1,8,32]")
@click.option("--threads", help="Numbers of threads, such as 1,2. [1 and one per core]")
@click.option("--provider", help="Execution providers, such as cpu,cuda. [cpu]")
@click.option("--variant", help="fp16, quantized, int8 or another file in the folder.")
@click.option("--seconds", default=1.0, help="Seconds per measurement.")
@options.json
def bench_model(
    *,
    model: str,
    batch: str | None,
    threads: str | None,
    provider: str | None,
    variant: str | None,
    seconds: float,
    json_: bool,
) -> None:
    """Measure how many images per second a model embeds.

    imgret models bench general --threads 1,2

    Batch sizes, numbers of threads and execution providers are compared.
    "network" is the network alone, on tensors that are ready; "embed" prepares images as well.
    The fastest setting is marked. A model that reads text is measured on texts, too.
    """
    batches, counts = _numbers(batch, "--batch"), _numbers(threads, "--threads")
    from imgret.evaluation import bench  # noqa: PLC0415  # so that --help is quick

    report = bench(
        model,
        batches=batches,
        threads=counts,
        providers=None if provider is None else _words(provider),
        variant=variant,
        seconds=seconds,
    )
    click.echo(json.dumps(report.to_dict()) if json_ else str(report))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None, option: str) -> list[int] | None:
    """Read whole numbers of at least 1, separated by commas."""
    if text is None:
        return None
    words = _words(text)
    numbers = [int(word) for word in words if word.isdecimal()]
    if not numbers or len(numbers) < len(words) or min(numbers) < 1:
        raise click.BadParameter(
            f"expected whole numbers of at least 1, separated by commas, found {text!r}",
            param_hint=option,
        )
    return numbers


@models.command("describe")
@click.argument("model", cls=Argument, help="Name of a built-in model, an ONNX file, or a folder.")
@options.json
def describe_model(*, model: str, json_: bool) -> None:
    """Show the inputs, outputs and description of a model.

    imgret models describe general
    """
    from imgret.models import describe  # noqa: PLC0415

    facts = describe(model)
    if json_:
        click.echo(json.dumps(facts))
        return
    click.echo(f"path           {facts['path']}")
    click.echo(f"fingerprint    {facts['fingerprint']}")
    click.echo(f"input          {_tensor(facts['input'])}")
    for tensor in facts["outputs"]:
        click.echo(f"output         {_tensor(tensor)}")
    click.echo(f"providers      {', '.join(facts['providers'])}")
    if (folder := facts.get("folder")) is not None:
        click.echo(f"kind           {folder['kind'] or 'unknown'}")
        click.echo(f"text           {folder['text'] or 'none: ' + folder['no_text']}")
        input_ = folder["input"]
        shown = input_ and ", ".join(f"{k} {json.dumps(v)}" for k, v in input_.items())
        click.echo(f"prepared       {shown or 'the folder does not say; give --preprocess'}")
        return
    if facts["bundle"] is None:
        click.echo("bundle         none: imgret cannot know how to prepare the input; write that")
        click.echo("               into the file with `imgret models bundle`, or pass preprocess=")
        return
    for name, value in facts["bundle"].items():
        if name == "input":
            value = ", ".join(f"{k} {json.dumps(v)}" for k, v in value.items())  # noqa: PLW2901
        if value is not None:
            click.echo(f"{'prepared' if name == 'input' else name:<14} {value}")


def _tensor(tensor: dict[str, Any]) -> str:
    shape = ", ".join("any" if n is None else str(n) for n in tensor["shape"])
    return f"{tensor['name']}: {tensor['dtype']} ({shape})"


@models.command("bundle")
@click.argument("model", cls=Argument, type=options.PATH, help="ONNX file of an embedder.")
@click.option(
    "--preprocess",
    required=True,
    help="Preprocessing of its input: JSON, or the path of a .json file. Keys: size, "
    "scaling, resize, short_side, fill, layout, dtype.",
)
@click.option("-o", "--output", type=options.PATH, help="File to write. [the model's file]")
@click.option("--name", help="Short name. [the file's name]")
@click.option("--version", default="1", help="Version; change it with the weights.")
@click.option("--tensor", help="Output that is the embedding. [the only one]")
@click.option("--precision", default="unknown", help="Precision, such as fp32 or int8.")
@click.option("--training-data", default="unknown", help="Data the model was trained on.")
@click.option("--source", default="unknown", help="Origin of the weights.")
@click.option("--licence", default="NOASSERTION", help="Licence, as an SPDX expression.")
@click.option("--notice", default="", show_default=False, help="Copyright notice of the weights.")
@options.json
def bundle_model(
    *,
    model: Path,
    preprocess: str,
    output: Path | None,
    tensor: str | None,
    json_: bool,
    **facts: Any,
) -> None:
    """Write into a model file how to prepare its input.

    imgret models bundle mine.onnx --preprocess '{"size": 224}'

    Afterwards imgret needs only the path of the file.
    """
    from imgret.models import write_bundle  # noqa: PLC0415

    bundle = write_bundle(
        model,
        output,
        preprocess=options.json_or_file(preprocess, "--preprocess"),
        output=tensor,
        **facts,
    )
    if json_:
        made = {"path": str(output or model), "name": bundle.name, "dim": bundle.dim}
        click.echo(json.dumps({**made, "normalized": bundle.normalized}))
        return
    length = "length 1" if bundle.normalized else "any length"
    click.echo(f"{output or model}: {bundle.name}, {bundle.dim}-d, {length}")

"""``imgret models``: list, download, check, measure, describe and bundle model files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from imgret.cli.help import Command, Group
from imgret.cli.options import Json, json_or_file

__all__ = ["models"]

models = typer.Typer(cls=Group, help="List, download, check, measure and bundle models.")


@models.command("list", cls=Command)
def list_models(json_: Json = False) -> None:
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
        typer.echo(
            json.dumps(facts)
            if json_
            else f"{name:<{width}}  {bundle.kind}, {f'{bundle.dim}-d, ' if bundle.dim else ''}"
            f"{bundle.input.size} px, {bundle.precision}, {bundle.licence}"
        )


@models.command("get", cls=Command)
def get_model(
    model: Annotated[
        str | None, typer.Argument(help="A name, or hf:owner/name. [list the names]")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="fp16, quantized, int8 or another that is there.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder. [one of the model's name]")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the sizes.")] = False,
    json_: Json = False,
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
            typer.echo(
                json.dumps(facts)
                if json_
                else f"{name:<25} {known.dim:>4}-d, {reads}, {known.licence}; {known.figure}"
            )
        return
    download = hub.look(model, variant=variant, revision=revision, folder=output)
    for file, size in download.files.items():
        typer.echo(f"{size / 1e6:>9.1f} MB  {file}", err=True)
    typer.echo(
        f"{download.total / 1e6:>9.1f} MB from {download.repository} "
        f"({download.revision[:10]}, {download.licence}) into {download.folder}",
        err=True,
    )
    if not dry_run:
        hub.fetch(download)
    if json_:
        facts = {"name": download.name, "folder": str(download.folder)}
        facts |= {"repository": download.repository, "revision": download.revision}
        typer.echo(json.dumps({**facts, "bytes": download.total, "licence": download.licence}))
    elif not dry_run:
        where = download.name if output is None else str(download.folder)
        typer.echo(f"imgret index FOLDER -o photos.imgret --embedder {where}")


@models.command("check", cls=Command)
def check_models(
    which: Annotated[
        list[str] | None, typer.Argument(help="Names or paths. [all built-in ones]")
    ] = None,
    json_: Json = False,
) -> None:
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
        typer.echo(
            json.dumps({**facts, "cosine_at_least": result.cosine_at_least})
            if json_
            else f"{model}: {verdict}, cosine {result.cosine:.4f} (at least "
            f"{result.cosine_at_least})"
        )
        bad += not result.ok
    if bad:
        raise typer.Exit(3)


@models.command("bench", cls=Command)
def bench_model(
    model: Annotated[
        str, typer.Argument(help="Name of an embedder, an ONNX file or a model's folder.")
    ],
    batch: Annotated[str | None, typer.Option(help="Batch sizes, such as 1,8,32. [1,8,32]")] = None,
    threads: Annotated[
        str | None,
        typer.Option(help="Numbers of threads, such as 1,2. [1 and one per core]"),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Execution providers, such as cpu,cuda. [cpu]")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="fp16, quantized, int8 or another file in the folder.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Seconds per measurement.")] = 1.0,
    json_: Json = False,
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
    typer.echo(json.dumps(report.to_dict()) if json_ else str(report))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None, option: str) -> list[int] | None:
    """Read whole numbers of at least 1, separated by commas."""
    if text is None:
        return None
    words = _words(text)
    numbers = [int(word) for word in words if word.isdecimal()]
    if not numbers or len(numbers) < len(words) or min(numbers) < 1:
        raise typer.BadParameter(
            f"expected whole numbers of at least 1, separated by commas, found {text!r}",
            param_hint=option,
        )
    return numbers


@models.command("describe", cls=Command)
def describe_model(
    model: Annotated[
        str, typer.Argument(help="Name of a built-in model, an ONNX file, or a folder.")
    ],
    json_: Json = False,
) -> None:
    """Show the inputs, outputs and description of a model.

    imgret models describe general
    """
    from imgret.models import describe  # noqa: PLC0415

    facts = describe(model)
    if json_:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"path           {facts['path']}")
    typer.echo(f"fingerprint    {facts['fingerprint']}")
    typer.echo(f"input          {_tensor(facts['input'])}")
    for tensor in facts["outputs"]:
        typer.echo(f"output         {_tensor(tensor)}")
    typer.echo(f"providers      {', '.join(facts['providers'])}")
    if (folder := facts.get("folder")) is not None:
        typer.echo(f"kind           {folder['kind'] or 'unknown'}")
        typer.echo(f"text           {folder['text'] or 'none: ' + folder['no_text']}")
        input_ = folder["input"]
        shown = input_ and ", ".join(f"{k} {json.dumps(v)}" for k, v in input_.items())
        typer.echo(f"prepared       {shown or 'the folder does not say; give --preprocess'}")
        return
    if facts["bundle"] is None:
        typer.echo("bundle         none: imgret cannot know how to prepare the input; write that")
        typer.echo("               into the file with `imgret models bundle`, or pass preprocess=")
        return
    for name, value in facts["bundle"].items():
        if name == "input":
            value = ", ".join(f"{k} {json.dumps(v)}" for k, v in value.items())  # noqa: PLW2901
        if value is not None:
            typer.echo(f"{'prepared' if name == 'input' else name:<14} {value}")


def _tensor(tensor: dict[str, Any]) -> str:
    shape = ", ".join("any" if n is None else str(n) for n in tensor["shape"])
    return f"{tensor['name']}: {tensor['dtype']} ({shape})"


@models.command("bundle", cls=Command)
def bundle_model(
    model: Annotated[Path, typer.Argument(help="ONNX file of an embedder.")],
    preprocess: Annotated[
        str,
        typer.Option(
            help="Preprocessing of its input: JSON, or the path of a .json file. Keys: size, "
            "scaling, resize, short_side, fill, layout, dtype."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write. [the model's file]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Short name. [the file's name]")] = None,
    version: Annotated[str, typer.Option(help="Version; change it with the weights.")] = "1",
    tensor: Annotated[
        str | None, typer.Option(help="Output that is the embedding. [the only one]")
    ] = None,
    precision: Annotated[str, typer.Option(help="Precision, such as fp32 or int8.")] = "unknown",
    training_data: Annotated[str, typer.Option(help="Data the model was trained on.")] = "unknown",
    source: Annotated[str, typer.Option(help="Origin of the weights.")] = "unknown",
    licence: Annotated[str, typer.Option(help="Licence, as an SPDX expression.")] = "NOASSERTION",
    notice: Annotated[str, typer.Option(help="Copyright notice of the weights.")] = "",
    json_: Json = False,
) -> None:
    """Write into a model file how to prepare its input.

    imgret models bundle mine.onnx --preprocess '{"size": 224}'

    Afterwards imgret needs only the path of the file.
    """
    from imgret.models import write_bundle  # noqa: PLC0415

    bundle = write_bundle(
        model,
        output,
        preprocess=json_or_file(preprocess, "--preprocess"),
        name=name,
        version=version,
        output=tensor,
        precision=precision,
        training_data=training_data,
        source=source,
        licence=licence,
        notice=notice,
    )
    if json_:
        facts = {"path": str(output or model), "name": bundle.name, "dim": bundle.dim}
        typer.echo(json.dumps({**facts, "normalized": bundle.normalized}))
        return
    length = "length 1" if bundle.normalized else "any length"
    typer.echo(f"{output or model}: {bundle.name}, {bundle.dim}-d, {length}")

"""A gallery of drawn flowers, and an application over it."""

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'imgret[serve]'")
httpx = pytest.importorskip("httpx", reason="pip install httpx")

from imgret import Retriever, images  # noqa: E402
from imgret.demo import samples  # noqa: E402
from imgret.serve import Limits, Site, create_app  # noqa: E402

SPECIES = ("daisy", "rose", "tulip")


@pytest.fixture(scope="session")
def flowers(tmp_path_factory):
    """A folder with a folder of images for each species."""
    folder = tmp_path_factory.mktemp("serve") / "flowers"
    for species in SPECIES:
        (folder / species).mkdir(parents=True)
        for n in range(12):
            data = images.encode(samples.draw(species, n, size=(160, 120)))
            (folder / species / f"{n}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def made(flowers):
    path = flowers.with_name("made.imgret")
    with Retriever.open(path, "a") as retriever:
        retriever.add_folder(
            flowers,
            labels="parent",
            metadata=lambda p: {"n": int(Path(p).stem), "place": {"row": int(Path(p).stem) % 2}},
            progress=False,
        )
    return path


@pytest.fixture
def gallery(made, tmp_path):
    """A gallery of its own for each test."""
    path = tmp_path / "flowers.imgret"
    Retriever.load(made).save(path)
    return path


class Client:
    """Calls an application without a network."""

    def __init__(self, app, **options):
        self.app = app
        self._options = {"base_url": "http://localhost:8080", **options}

    def __call__(self, method, url, **options):
        async def asked():
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, **self._options) as client:
                return await client.request(method, url, **options)

        return asyncio.run(asked())

    def get(self, url, **options):
        return self("GET", url, **options)

    def post(self, url, **options):
        return self("POST", url, **options)

    def together(self, *calls):
        """Send requests at the same time."""

        async def asked():
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, **self._options) as client:
                return await asyncio.gather(
                    *(client.request(*call[:2], **call[2]) for call in calls)
                )

        return asyncio.run(asked())


@pytest.fixture
def serve():
    """Make clients, and close what they serve."""
    sites = []

    def make(*given, limits=None, token=None, hosts=(), **options):
        site = Site(*given, **options)
        sites.append(site)
        client = Client(create_app(site, limits=limits or Limits(), token=token, hosts=hosts))
        client.site = site
        return client

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def client(serve, gallery):
    return serve(gallery)

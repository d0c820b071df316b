"""The built-in catalogue: every entry loads, is held against the schema, and is enough for a provider."""

from __future__ import annotations

import datetime
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from portabl import catalogue
from portabl.catalogue import entry, names, parse
from portabl.errors import ConfigError
from portabl.model import HEADERS
from portabl.provider_types import S3Provider
from portabl.providers import from_document
from portabl.registry import open_location

WANTED = frozenset(
    """
    ovhcloud outscale scaleway orange-flexible-engine orange-cloud-avenue open-telekom-cloud ionos plusserver exoscale
    infomaniak hetzner cubbit impossible-cloud stackit upcloud leaseweb clever-cloud aruba aws aws-eusc gcs azure-blob
    cloudflare-r2 backblaze-b2 wasabi minio ceph-rgw seaweedfs cloudwatt numergy sap eviden
    """.split()  # noqa: SIM905 - a list of names reads better so
)


def test_every_host_is_there() -> None:
    assert set(names()) >= WANTED


@pytest.mark.parametrize("name", names())
def test_every_entry_says_where_it_is_from(name: str) -> None:
    one = entry(name)
    assert one.sources
    assert all(one.sources)
    assert datetime.date(2026, 1, 1) < one.checked <= datetime.date(2026, 12, 31)
    assert set(one.capabilities.headers_dropped) <= set(HEADERS)
    assert one.status != "active" or one.api != "s3" or one.regions or one.endpoint_template, "no way to reach it"


@pytest.mark.parametrize("name", names())
def test_every_region_is_enough_for_a_provider(name: str) -> None:
    """Besides credentials, `catalogue` and `region` say all that the adapter needs; nothing is sent here."""
    one = entry(name)
    for region in one.regions.values():
        table = {"catalogue": name, "region": region.name, "access_key_id": "k", "secret_access_key": "env:HOME"}
        config = from_document({"providers": {"x": table}})
        provider = config.provider("x")
        assert isinstance(provider, S3Provider)
        assert provider.endpoint == ("" if one.is_aws else region.endpoint)
        assert provider.region == (region.signing or region.name)
        assert provider.country == (region.country if region.documented else "")
        with open_location("x:some-bucket", config) as storage:
            assert storage.place[0].endswith("some-bucket")


def _provider(**table: object) -> S3Provider:
    provider = from_document({"providers": {"x": table}}).provider("x")
    assert isinstance(provider, S3Provider)
    return provider


def test_ovh_as_the_documentation_has_it() -> None:
    provider = _provider(catalogue="ovhcloud", region="gra")
    assert (provider.endpoint, provider.region) == ("https://s3.gra.io.cloud.ovh.net", "gra")
    assert provider.country == "FR"
    assert provider.owner_country == "", "no document confirms it"


def test_hints_are_settings_that_everything_overrules() -> None:
    hinted = _provider(catalogue="scaleway", region="fr-par")
    assert hinted.settings()["parts_max"] == 1000
    assert hinted.parts_max is None, "what is set and what is hinted at stay apart"
    assert _provider(catalogue="scaleway", region="fr-par", parts_max=500).settings()["parts_max"] == 500
    assert _provider(catalogue="open-telekom-cloud", region="eu-de").settings()["list_objects_version"] == 1


def test_hints_reach_the_adapter() -> None:
    config = from_document({"providers": {"x": {"catalogue": "scaleway", "region": "fr-par"}}})
    with open_location("x:bucket", config) as storage:
        assert storage.capabilities.parts_max == 1000


def test_only_what_the_catalogue_names_is_where_it_says() -> None:
    """Another endpoint than the catalogue's own says nothing of a country."""
    elsewhere = _provider(catalogue="ovhcloud", region="gra", endpoint="https://s3.example.org")
    assert (elsewhere.country, elsewhere.owner_country) == ("", "")
    assert _provider(catalogue="ovhcloud", region="gra", endpoint="https://s3.x.org", country="BE").country == "BE"
    same = _provider(catalogue="ovhcloud", endpoint="https://s3.gra.io.cloud.ovh.net/")
    assert (same.region, same.country) == ("gra", "FR")


def test_a_region_may_be_named_as_signatures_name_it() -> None:
    assert _provider(catalogue="ionos", region="de").endpoint == "https://s3.eu-central-1.ionoscloud.com"
    assert _provider(catalogue="ionos", region="eu-central-1").region == "de"


def test_dots_in_a_bucket_leave_a_virtual_host_only_where_it_is_hinted_at() -> None:
    from portabl_adapters.s3.storage import S3Storage

    for table, base in (
        ({}, "https://s3.eusc-de-east-1.amazonaws.eu/a.b/"),
        ({"addressing": "virtual"}, "https://a.b.s3.eusc-de-east-1.amazonaws.eu/"),
    ):
        with open_location("x:a.b", from_document({"providers": {"x": {"catalogue": "aws-eusc", **table}}})) as storage:
            assert isinstance(storage, S3Storage)
            assert storage.calls.address.base == base


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ({"catalogue": "ovh", "region": "gra"}, "the catalogue has no `ovh`", "did you mean `ovhcloud`?"),
        ({"catalogue": "nothing-like-it"}, "the catalogue has no", "portabl providers list --catalogue"),
        ({"catalogue": "ovhcloud", "region": "gre"}, "no region `gre` of OVHcloud", "did you mean `gra`?"),
        ({"catalogue": "ovhcloud", "region": "new-9"}, "no region `new-9`", "https://s3.{region}.io.cloud.ovh.net"),
        ({"catalogue": "ovhcloud"}, "region: is missing", "one of gra, rbx"),
        (
            {"catalogue": "upcloud", "region": "europe-1"},
            "endpoint: is missing",
            "https://{instance}.upcloudobjects.com",
        ),
        ({"catalogue": "minio"}, "endpoint: is missing", "as the provider names it"),
        ({"catalogue": "cloudwatt"}, "Cloudwatt (Orange) is closed", "2020-02-01"),
        ({"catalogue": "azure-blob"}, "Azure Blob Storage has no S3 API", "adlfs"),
        ({"catalogue": "sap"}, "resells the storage of others", "service binding"),
        ({"catalogue": "seeweb"}, "no public S3 endpoint", "the contract names"),
        ({"catalogue": "ovhcloud", "region": "gra", "country": "France"}, "country: must be an ISO 3166-1", ""),
    ],
)
def test_mistakes_are_named(table: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_document({"providers": {"x": table}}, "portabl.toml")
    assert str(caught.value).startswith("portabl.toml: [providers.x] ")
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_provider_that_is_closing_is_warned_of() -> None:
    warnings = from_document({"providers": {"x": {"catalogue": "orange-flexible-engine"}}}).warnings
    assert len(warnings) == 1
    assert "leave soon" in warnings[0]


def test_other_types_may_name_an_entry_too() -> None:
    table = {"type": "fsspec", "url": "abfs://c", "catalogue": "azure-blob", "country": "NL"}
    provider = from_document({"providers": {"x": table}}).provider("x")
    assert (provider.country, provider.settings()) == ("NL", {"url": "abfs://c"})


GOOD = """
name = "A"
status = "active"
api = "s3"
checked = 2026-11-30
sources = ["a page"]
[regions.one]
endpoint = "https://s3.example.org"
country = "FR"
[[hazards]]
side = "both"
what = "something is lost"
reason = "because"
"""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("sources =", "source =", "source: unknown field"),
        ('sources = ["a page"]', "", "sources: is missing"),
        ('["a page"]', '"a page"', "sources: must be a list of strings, not a string"),
        ('["a page"]', "[1]", "sources: must be a list of strings, but holds a whole number"),
        ("2026-11-30", '"2026-11-30"', "checked: must be a date"),
        ('"active"', '"alive"', "status: `alive` is none of"),
        ('"s3"\n', '"s4"\n', "api: `s4` is none of"),
        ('"both"', '"left"', "side: `left` is none of"),
        ('reason = "because"', "", "reason is missing"),
        ("country", "land", "[regions.one] land: unknown field"),
        ('"FR"', '"fr"', "`fr` is no ISO 3166-1"),
        ("https://s3", "http://s3", "endpoint: must be https://"),
        ('"both"', "both", "not valid TOML"),
        ('"active"', '"closed"', "history: is missing"),
        ('"s3"\n', '"none"\n', "advice: is missing"),
        ('"s3"\n', '"s3"\nundocumented = ["nobody"]\n', "undocumented: there is no `nobody`"),
        ('"s3"\n', '"s3"\nlimits = 5\n', "[limits]: must be a table"),
    ],
)
def test_an_entry_that_breaks_the_schema_is_no_entry(before: str, after: str, message: str) -> None:
    assert parse("a", GOOD).regions["one"].country == "FR"
    assert before in GOOD
    with pytest.raises(ConfigError, match=r"^catalogue/a\.toml") as caught:
        parse("a", GOOD.replace(before, after))
    assert message in str(caught.value)


def test_the_wheel_carries_the_catalogue(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    arguments = ("wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q")
    subprocess.run([sys.executable, "-m", "pip", *arguments, "-w", str(tmp_path), str(root)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name.removeprefix("portabl/catalogue/") for name in zipfile.ZipFile(wheel).namelist()}
    assert {f"{name}.toml" for name in catalogue.names()} <= inside

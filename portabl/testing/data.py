"""Keys and metadata that careless stores and tools change, merge or drop; the contract suite writes every one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from portabl.model import Metadata

_LONG = b"/".join([b"s" * 200] * 5)[:1004] + b"/" + b"t" * 19  # 1,024 bytes, no segment over 255

KEYS: tuple[bytes, ...] = (
    # slashes and dots: a store that keeps keys as paths cleans these up
    *(b"a//b", b"p//q//r", b"/lead", b"//two", b"trail/", b"end//", b"/", b"//"),
    *(b"./x", b"../x", b"a/./b", b"a/../b", b".", b"..", b"x/.", b"x/..", b"...", b".hidden"),
    *(b"a\\b", b"\\", b"trail.", b"trail ", b" lead", b"d /f", b"d./f"),
    # what URLs, shells, XML and query strings give a meaning to
    *(b"sp ace", b"plus+plus", b"pct%2Fenc", b"%", b"%zz", b"pct%25", b"%0A", b"q?x", b"q?versionId=abc", b"h#x"),
    *(b"c:d", b'&<>"', b"&amp;", b"'", b"*", b"|", b"[x]", b"{x}", b"^`~", b"=;,@$!()", b"~", b"soap"),
    # control characters, also those XML cannot say
    *(b"tab\tkey", b"nl\nkey", b"cr\rkey", b"crlf\r\nkey", b"\x01ctl", b"\x1f", b"\x7f", b"\xc2\x85"),
    # Unicode: composed and not, look-alikes, code points some encoders cannot write
    *(
        key.encode()
        for key in ("\u00e9", "e\u0301", "\N{GRINNING FACE}", "\u00a0", "\u2028", "\ufeffbom", "／", "\u201b")
    ),
    *(key.encode() for key in ("a␊b", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "ﬁ", "İ", "\u202etxt")),
    # names that file systems reserve or cannot hold
    *(b"con", b"aux.txt", b"A", b"n" * 300, b"z" * 1024, "é".encode() * 512, _LONG, b"d/" * 300 + b"deep"),
    # no text at all, and nothing at all
    *(b"\xff\xfe", b"lone\xed\xa0\x80", b""),
)
"""Each is written alone: it comes back under exactly this name, or the write is refused."""

TWINS: tuple[tuple[bytes, ...], ...] = (
    (b"a/b", b"a//b"),
    (b"a/b", b"a\\b"),
    (b"lead", b"/lead"),
    (b"a", b"a/b"),
    (b"a", b"a/", b"a//"),
    (b"b", b"a/../b"),
    (b"x", b"./x"),
    (b"A", b"a"),
    ("\u00e9".encode(), "e\u0301".encode()),
    (b"pct%2Fenc", b"pct/enc"),
    (b"plus+", b"plus "),
    (b"t", b"t ", b"t."),
    ("a␊b".encode(), b"a\nb"),
    (b"q", b"q?versionId=abc"),
)
"""Each group is written together, in both orders: nobody may lose the content."""

ORDER: tuple[bytes, ...] = tuple(
    sorted([b"B", b"a", b"a-b", b"a.b", b"a0", b"aa/x", b"aa-x", b"z", b"~", "é".encode(), "￮".encode(), "𐀀".encode()])
)
"""Raw byte order, which is neither the order of a directory tree nor that of UTF-16."""


def _user(name: str, value: str) -> Metadata:
    return Metadata(user={name: value})


METADATA: Mapping[str, Metadata] = MappingProxyType(
    {
        "cache-control": Metadata(headers={"cache-control": "max-age=60, must-revalidate"}),
        "content-disposition": Metadata(headers={"content-disposition": 'attachment; filename="a b.txt"'}),
        "content-encoding": Metadata(headers={"content-encoding": "gzip"}),
        "content-language": Metadata(headers={"content-language": "de, fr"}),
        "content-type": Metadata(headers={"content-type": "text/plain; charset=iso-8859-1"}),
        "expires": Metadata(headers={"expires": "Wed, 21 Oct 2099 07:28:00 GMT"}),
        "website-redirect-location": Metadata(headers={"website-redirect-location": "/elsewhere"}),
        "plain": _user("colour", "blue"),
        "dash in a name": _user("two-words", "v"),
        "underscore in a name": _user("two_words", "v"),
        "dot in a name": _user("two.words", "v"),
        "digits first in a name": _user("1st", "v"),
        "empty value": _user("empty", ""),
        "punctuation": _user("p", "a=b; c, d & \"e\" 'f' <g> %20 100% +1"),
        "encoded word": _user("p", "=?UTF-8?B?w6k=?="),
        "non-ASCII value": _user("name", "Zoë – 東京"),
        "long value": _user("long", "v" * 1500),
        "many": Metadata(user={f"n{i}": f"v{i}" for i in range(20)}),
        "tags": Metadata(tags={"team": "blue", "with space": "a b", "sign": "+-=._:/@", "empty": ""}),
        "non-ASCII tag": Metadata(tags={"ort": "Köln"}),
        "all": Metadata(
            {"content-type": "image/png", "cache-control": "no-store"}, {"colour": "blue"}, {"team": "blue"}
        ),
    }
)
"""Each is written with an object of its own: it comes back exactly, or `Written.losses` names what does not."""

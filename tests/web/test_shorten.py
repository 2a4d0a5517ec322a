"""Names in a page's script are made short, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import rjsmin

from waitroom.web.shorten import shortened, shortened_style

TEMPLATES = Path(__file__).parents[2] / "templates"


@pytest.mark.parametrize(
    ("code", "short"),
    [
        ("const page=1,link=page;let timer,asked=page;", "const a=1,b=a;let c,d=a;"),
        ("const[unit,size]=pair;use(unit,size);", "const[a,b]=pair;use(a,b);"),
        ("let[least,most]=(x||y).z,other=f(g,h);", "let[a,b]=(x||y).z,c=f(g,h);"),
        ("const run=(first,...rest)=>first(rest);", "const c=(a,...b)=>a(b);"),
        ("list.map(one=>one.one);", "list.map(a=>a.one);"),
        ('const state=me.state;say(state,"state",{state:1});', 'const a=me.state;say(a,"state",{state:1});'),
        ("const low=1,high=2;f({low,high,x:low});", "const a=1,b=2;f({low:a,high:b,x:a});"),
        ("const yes=1;f(yes?yes:yes);if(yes){yes}", "const a=1;f(a?a:a);if(a){a}"),
        ("const f=()=>{const inner=1;return{inner}};", "const b=()=>{const a=1;return{inner:a}};"),
        ("for(const one of ones)use(one);", "for(const a of ones)use(a);"),
        ('const text=1;x.replace(/(text)"/g,text);', 'const a=1;x.replace(/(text)"/g,a);'),
        ('const text="a \\" text";', 'const a="a \\" text";'),
        ("const name=a;", "const b=a;"),
    ],
)
def test_what_a_script_declares_is_made_short(code, short):
    """Wherever it stands as a name of its own; a property, a key, a word in a string is somebody else's."""
    assert shortened(code) == short


@pytest.mark.parametrize(
    "code", ["var page=1", "const page=`${page}`", "function f(page){const x=1}", "const page='a'"]
)
def test_what_is_not_understood_stays(code):
    """Better a long script than a wrong one."""
    assert shortened(code) == code


def test_what_a_style_varies_is_made_short():
    """Its variables, wherever they are used, and nothing that only looks like one."""
    style = ":root{--ground:#fff;--line:#000}a{color:var(--line);background:var(--ground)}.a--b--{-webkit-x:y}"
    short = ":root{--a:#fff;--b:#000}a{color:var(--b);background:var(--a)}.a--b--{-webkit-x:y}"
    assert shortened_style(style) == short


def test_there_are_names_for_any_number_of_things():
    """Of two letters when those of one are used up, and no word of the language among them."""
    declared = ",".join(f"name{number}" for number in range(400))
    names = shortened(f"let {declared};")[4:-1].split(",")
    assert len(set(names)) == 400
    assert not {"do", "if", "in"} & set(names)


@pytest.mark.parametrize("name", ["waiting", "retry", "form"])
def test_our_scripts_are_understood(name):
    """Each of them is shorter by it."""
    code = rjsmin.jsmin((TEMPLATES / f"{name}.js").read_text())
    assert len(shortened(code)) < 0.92 * len(code)

"""Invites from the command that makes them to the shop's door: over real sockets, once each, on whichever worker."""

from __future__ import annotations

import json
import re
import time

import pytest
import yaml
from house import Visitor, free_port, running, until

from waitroom.cli import main

PRIORITY = {"always_queue": True, "priority": {"share": 0.5}, "total_active_users": 1}


def links(house, capsys, *words):
    """Return what `waitroom invite` prints."""
    capsys.readouterr()
    assert main(["invite", "launch", "--config", str(house.config), *words]) == 0
    return capsys.readouterr().out.split()


def path(link):
    """Return a link without its host."""
    return re.sub("^http://[^/]*", "", link)


def test_who_is_invited_has_a_line_of_their_own(tmp_path, origin, capsys):
    """A link shows a button and uses nothing up; the button gives a place, once; and it is called by its share."""
    with running(tmp_path, origin, PRIORITY, workers=2, store="sqlite:///record.db") as house:
        inside = Visitor(house)
        inside.event()
        until(inside.is_in)
        line = [Visitor(house) for _ in range(6)]
        for visitor in line:
            visitor.event()
        link, second = links(house, capsys, "--count", "2", "--url", house.url)
        assert link.startswith(house.url + "/.waitroom/launch/invite?code=i.1.")
        guest, thief = Visitor(house), Visitor(house)
        for _ in range(3):
            page = guest.get(link)
            assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
            assert f'action="{path(link)}"' in page.text.replace("&amp;", "&")
            assert "set-cookie" not in page.headers
        used = guest.post(link)
        assert (used.status_code, used.headers["location"]) == (303, "/event/")
        until(lambda: guest.me()["state"] == "waiting")
        until(lambda: guest.me()["ahead"] == 0)
        assert guest.me()["number"] == 8
        assert line[5].me()["number"] == 7
        # Until its holder is known to have been heard, who asks again is taken for them: the answer may have been lost.
        until(lambda: Visitor(house).post(link).status_code == 410)
        refused = thief.post(link)
        assert refused.status_code == 410
        assert "not valid" in refused.text
        assert "set-cookie" not in refused.headers
        assert guest.post(link).status_code == 303
        assert guest.me()["number"] == 8
        before = line[5].me()["number"], line[5].cookies[f"waitroom_{house.room}"]
        assert line[5].post(second).status_code == 303
        assert (line[5].me()["number"], line[5].cookies[f"waitroom_{house.room}"]) == before
        until(lambda: line[5].me()["ahead"] == 1)
        went, waiting = [], {"guest": guest, **{str(at): visitor for at, visitor in enumerate(line)}}
        last = inside
        while len(went) < 4:
            last.post("/.waitroom/launch/leave")
            until(lambda: any(one.me()["state"] in ("called", "missed") for one in waiting.values()))
            name, last = next((name, one) for name, one in waiting.items() if one.is_in())
            went.append(name)
            del waiting[name]
        assert "guest" in went[:3]
        assert "0" in went[:3]


def test_links_that_are_not_good_say_so_and_make_no_place(tmp_path, origin, capsys):
    """Forged, of another room or key, over, cut short, or for a room that has no such line."""
    rooms = {"priority": {"share": 0.2}, "always_queue": True}
    with running(tmp_path, origin, rooms) as house:
        [short] = links(house, capsys, "--expires", "1s", "--url", house.url)
        [good] = links(house, capsys, "--url", house.url)
        time.sleep(1.1)
        for broken in (short, good[:-1], good.replace("code=i", "code=t"), good.split("?")[0], good + "x" * 500):
            for method in ("GET", "POST"):
                answer = Visitor(house).request(method, broken)
                assert answer.status_code == 410, (method, broken)
                assert "set-cookie" not in answer.headers
        assert Visitor(house).request("PUT", good).status_code == 405
        assert Visitor(house).request("HEAD", good).status_code == 200
        visitor = Visitor(house)
        visitor.event()
        for sender in (visitor, Visitor(house)):  # whose cookie came along, and whose stayed at home
            cross = sender.post(good, headers={"sec-fetch-site": "cross-site"})
            assert cross.status_code == 403
            assert "set-cookie" not in cross.headers
        stated = yaml.safe_load(house.config.read_text())
        del stated["rooms"][0]["priority"]
        house.config.write_text(yaml.safe_dump(stated))
        assert main(["invite", "launch", "--config", str(house.config)]) == 1
        assert "has no line for the invited" in capsys.readouterr().err


def test_an_invite_leads_to_a_path_of_any_letters(tmp_path, origin, capsys):
    """The address is one that the room covers, where its invited wait; so is the one on the page of a spent invite."""
    with running(tmp_path, origin, PRIORITY | {"match": [{"path": "/행사/a+b/"}]}) as house:
        [link] = links(house, capsys, "--url", house.url)
        guest = Visitor(house)
        led = guest.post(link).headers["location"]
        assert led == "/%ED%96%89%EC%82%AC/a+b/"
        guest.get(led)
        assert guest.me()["number"] == 1
        until(lambda: Visitor(house).post(link).status_code == 410)
        assert f'href="{led}"' in Visitor(house).post(link).text


def test_the_button_of_an_invite_leads_wherever_the_shop_leads(page, tmp_path, origin, capsys):
    """To a browser the shop's answer is still the button's: a shop that has its pages on another host may say so."""
    there = f"http://localhost:{origin.port}/mobile"
    plain = origin.answer
    with running(tmp_path, origin, {"priority": {"share": 0.2}}) as house:
        [link] = links(house, capsys, "--url", house.url)
        page.goto(link)
        origin.answer = f"HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode()
        try:
            with page.expect_request(there):
                page.click("button")
        finally:
            origin.answer = plain


def test_the_shop_and_its_scripts_are_not_told_the_code(page, tmp_path, origin, capsys):
    """Whoever is inside keeps the invite, so its address must not go on to the shop, which shows it to others."""
    with running(tmp_path, origin, {"priority": {"share": 0.2}}) as house:
        [link] = links(house, capsys, "--url", house.url)
        page.goto(f"{house.url}/event/")
        page.goto(link)
        origin.seen.clear()
        page.click("button")
        page.wait_for_url(f"{house.url}/event/")
        assert page.evaluate("document.referrer") == f"{house.url}/"
        assert {seen.header("Referer") for seen in origin.seen if seen.target == "/event/"} == {f"{house.url}/"}
        assert Visitor(house).get(link).status_code == 200


def test_an_invite_in_standby_lets_straight_in(tmp_path, origin, capsys):
    """With a pass at once; used again by who is inside, it changes nothing."""
    admin = {"listen": f"127.0.0.1:{free_port()}", "token_file": "var/admin-token"}
    with running(tmp_path, origin, {"priority": {"share": 0.2}}, admin=admin) as house:
        [link] = links(house, capsys, "--url", house.url)
        guest = Visitor(house)
        assert guest.post(link).status_code == 303
        assert guest.is_in()
        assert guest.post(link).status_code == 303
        assert guest.is_in()
        assert main(["room", "launch", "close", "--config", str(house.config)]) == 0
        [other] = links(house, capsys, "--url", house.url)
        until(lambda: guest.get("/.waitroom/launch/now").json()["state"] == "closed")
        closed = Visitor(house).post(other)
        assert (closed.status_code, closed.headers["waitroom-state"]) == (503, "closed")


@pytest.fixture
def file(tmp_path):
    """A configuration with keys, of two rooms, one of which invites."""
    path = tmp_path / "waitroom.yaml"
    path.write_text(
        "listen: 127.0.0.1:8123\n"
        "rooms:\n"
        "  - {name: launch, match: [{path: /event/}], priority: {}}\n"
        "  - {name: sale, match: [{path: /sale/}]}\n"
    )
    assert main(["keys", "new", "--config", str(path)]) == 0
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "there are: launch, sale"),
        (["sale"], "write priority: {share: 0.2} in it"),
        (["launch", "--count", "0"], "write 1 to"),
        (["launch", "--count", "100001"], "write 1 to"),
        (["launch", "--expires", "2"], "write a number with s"),
        (["launch", "--expires", "soon"], "no duration"),
        (["launch", "--url", "shop.example"], "write https://shop.example"),
        (["launch", "--url", "http://["], "write https://shop.example"),
        (["launch", "--url", "https://shop.example/event/"], "write https://shop.example"),
    ],
)
def test_what_is_typed_wrongly_is_said(file, capsys, words, said):
    """One sentence, and what would be right."""
    assert main(["invite", *words, "--config", str(file)]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_links_are_different_and_begin_where_the_shop_is(file, capsys):
    """As many as asked for, at `listen` unless an address is said; as JSON with their end."""
    capsys.readouterr()
    assert main(["invite", "launch", "--config", str(file), "--count", "20"]) == 0
    found = capsys.readouterr().out.split()
    assert len(set(found)) == 20
    assert all(link.startswith("http://127.0.0.1:8123/.waitroom/launch/invite?code=") for link in found)
    assert main(["invite", "launch", "--config", str(file), "--json", "--url", "https://shop.example/"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["links"][0].startswith("https://shop.example/.waitroom/launch/invite?")
    assert abs(said["until_ms"] - (time.time() + 7_200) * 1000) < 10_000

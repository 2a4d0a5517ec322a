// Keeps the waiting page true without reloading it under its reader. Asks `me`, waits as long as it was told and a
// little more by chance, and enters at the turn. It says what it hears in the words the page brought along.
(() => {
  const $ = (id) => document.getElementById(id);
  const page = $("page").dataset, link = $("enter"), bell = $("bell"), mine = $("mine"), more = $("more");
  const words = JSON.parse($("words").textContent);
  const lang = document.documentElement.lang, count = (n) => n.toLocaleString(lang);
  const fill = (text, values) => text.replace(/{(\w+)}/g, (_, name) => values[name]);
  const write = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };

  // A browser that blocks storage throws at the first touch. Then no entry is remembered, and each page waits its 5 s.
  const recall = (key) => { try { return sessionStorage["waitroom:" + key]; } catch (_) {} };
  const keep = (key, value) => { try { sessionStorage["waitroom:" + key] = value; } catch (_) {} };
  const place = page.room + ":" + page.number, loaded = Date.now();
  keep("works", 1);

  // `known`: the browser has shown this place before, so it keeps our cookie. `ends`: when a turn that its holder
  // wants to take by hand is over.
  let state = page.state, refresh = +page.refresh, known = !!recall(place);
  let [least, most] = (recall(place) || "x/x").split("/").map(Number);
  let timer, asking, gone, asked = loaded, failures = 0, strangers = 0, skew = 0, opens, ends, said, spoken, sound;

  const waitIn = (range) => {
    if (!range) return words.wait.unknown;
    const [unit, size] = range[1] <= 5400 ? ["minutes", 60] : ["hours", 3600];
    const low = Math.floor(range[0] / size), high = Math.max(Math.ceil(range[1] / size), low);
    const kind = high < 2 ? "moment" : unit + (low ? (low < high ? "_range" : "") : "_upto");
    return fill(words.wait[kind], { low, high });
  };
  const left = () => fill(words.wait.opens, { high: new Date(Math.max(0, opens - Date.now())).toISOString().slice(11, 19) });
  const timeIn = (s) => {
    const n = Math.max(1, Math.round(s < 120 ? s : s / 60));
    return fill(words.time[s < 120 ? (n < 2 ? "second" : "seconds") : "minutes"], { n: count(n) });
  };

  // Read out when something else is said, or at most twice a minute; and half a minute before a turn is missed.
  const say = (kind, ...parts) => {
    const now = Date.now();
    if (ends - now < 30000) [kind, parts] = [ends, [$("lead").textContent, more.textContent]];
    if (said === kind && now - spoken < 30000) return;
    if (said) write("said", parts.filter(Boolean).join(". ").replace(/\.\. /g, ". "));
    said = kind;
    spoken = now;
  };

  const paint = (me) => {
    const pick = (table) => table[state] || table.other;
    // Nobody is shown more people ahead than before, not after a reload either.
    if (Number.isInteger(me.ahead)) {
      least = least < me.ahead ? least : me.ahead;
      most = most > me.ahead ? most : me.ahead;
      keep(place, least + "/" + most);
      $("progress").value = most ? 1 - least / most : 1;
    }
    const called = state === "called", claimBy = called && me.claim_by + skew;
    opens = state === "prequeue" && me.opens_at + skew;
    ends = called && mine.checked ? claimBy : NaN;
    const heading = pick(words.heading), wait = opens ? left() : waitIn(me.wait_s), note = me.message || "";
    const ahead = isNaN(least) ? "–" : count(least);
    const caption = words.ahead[isNaN(least) ? "unknown" : least === 1 ? "one" : "many"];
    const until = claimBy && fill(words.until, { until: new Date(claimBy).toLocaleTimeString(lang) });
    write("heading", heading);
    write("lead", [!ends && pick(words.lead), until].filter(Boolean).join(" "));
    write("ahead", ahead);
    write("caption", caption);
    write("wait", wait);
    if (me.place) write("number", fill(words.drawn, { number: count(me.number), place: count(me.place) }));
    write("message", note);
    $("message").hidden = !note;
    // At the turn the number's place is the buttons', so that nothing else moves.
    link.hidden = !($("count").hidden = words.enter[state]);
    more.hidden = !ends;
    write("enter", words.enter[state] || "");
    const behind = ahead + " " + caption, title = state === "waiting" ? behind : heading;
    if (document.title !== title) document.title = title;
    say(heading + note, heading, note, until || behind, !until && wait);
  };

  const plan = (run, ms) => {
    clearTimeout(timer);
    timer = setTimeout(run, ms);
  };
  const later = (s, lost) => {
    const text = fill(lost ? words.lost : words.next, { time: timeIn(s) });
    $("page").classList.toggle("lost", !!lost);
    write("next", (lost ? words.offline + ". " : "") + text);
    if (lost) say(words.offline, words.offline, text);
    plan(ask, s * 1000 * (1 + Math.random() * page.jitter));
  };

  // One automatic entry in 5 s, whatever is answered: a page that is sent back at once must not spin.
  const enter = () => {
    const last = recall("works") ? +recall(page.room) || 0 : loaded, now = Date.now();
    if (now >= last && now < last + 5000) return plan(enter, last + 5000 - now);
    keep(page.room, now);
    gone = true;
    location.replace(link.href);
    // An answer that is no page (a download, a 204) leaves this one standing.
    plan(wake, 90000);
  };
  const askMore = () => {
    fetch(page.me.replace(/me$/, "more"), { method: "POST" }).catch(() => {});
    later(1);
  };
  // Only where it was asked for, by which a browser lets it sound. Not every phone has all three.
  const ring = (text) => {
    try {
      sound = sound || new AudioContext();
      const tone = new OscillatorNode(sound);
      tone.connect(new GainNode(sound, { gain: 0.2 })).connect(sound.destination);
      tone.start();
      tone.stop(sound.currentTime + 0.5);
      if (navigator.vibrate) navigator.vibrate(500);
      text ? new Notification(text) : Notification.requestPermission();
    } catch (_) {}
  };

  const refuse = () => {
    gone = true;
    state = "no_cookies";
    paint({});
    write("next", "");
  };

  const hear = (me) => {
    const before = state;
    refresh = Math.min(Math.max(+me.refresh_s || refresh, 1), 3600);
    if (me.state === "none" && !known) {
      // Unknown twice, right after joining: the cookie was not kept. To join again would go round in circles.
      strangers += 1;
      return strangers > 1 ? refuse() : later(2);
    }
    known = true;
    state = me.state;
    // Of two tabs that joined at once the later one's place is kept: this page is of no other than that.
    if (state === "none" || me.number !== +page.number) return enter();
    paint(me);
    const news = before !== state, called = state === "called";
    if (news && called && bell.checked) ring(document.title);
    // A missed call needs one visit, and after it the line calls again.
    if (["admitted", "expired"].includes(state) || (!mine.checked && (called || (news && state === "missed")))) {
      return bell.checked ? plan(enter, 1000) : enter();
    }
    // It may have been called long before it heard of it.
    news && called ? askMore() : later(refresh);
  };

  const ask = async () => {
    if (asking || gone) return;
    asking = true;
    asked = Date.now();
    const stop = new AbortController(), limit = setTimeout(() => stop.abort(), 15000);
    let me, rest = 0;
    try {
      const answer = await fetch(page.me + (document.hidden ? "?hidden=1" : ""), {
        cache: "no-store", redirect: "error", signal: stop.signal,
      });
      rest = Math.min(+answer.headers.get("Retry-After") || 0, 300);
      skew = Date.now() - Date.parse(answer.headers.get("Date")) || 0;
      if (answer.ok) me = await answer.json();
    } catch (_) {}
    clearTimeout(limit);
    asking = false;
    failures = me && me.state ? 0 : Math.min(failures + 1, 5);
    if (!failures) return hear(me);
    later(Math.max(rest, Math.min(refresh * 2 ** failures, Math.max(60, refresh))), true);
  };

  const wake = () => {
    gone = false;
    ask();
  };
  const look = () => {
    if (!document.hidden && Date.now() - asked > 2000) ask();
  };

  if (!navigator.cookieEnabled) return refuse();
  document.documentElement.className = "live";
  paint({
    ahead: parseInt(page.ahead), wait_s: page.wait && page.wait.split(" "), message: $("message").textContent, claim_by: +page.claimBy,
    opens_at: loaded + page.opens * 1000,
  });
  later(refresh);
  setInterval(() => {
    if (opens) write("wait", left());
    if (ends - Date.now() < 30000) say();
  }, 500);
  more.onclick = askMore;
  bell.onchange = () => bell.checked && ring();
  mine.onchange = () => state === "called" && !mine.checked && enter();
  addEventListener("pageshow", (event) => { if (event.persisted) wake(); });
  addEventListener("online", look);
  document.addEventListener("visibilitychange", look);
})();

// Keeps the page as it was sent up to date, and says what the operator says. Every sentence comes from the server
// written out; here it is only put in its place, always as text.
"use strict";

const body = document.body, room = body.dataset.page;
const byId = (id) => document.getElementById(id);
const WITHIN_MS = 10000, STALE_MS = 4000, DEAD_MS = 12000, AGAIN_MS = 3000, CHECK_MS = 1000;

function put(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

// Times, in the reader's own.
function localTime(element) {
  const at = new Date(element.dateTime), today = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleTimeString([], {hour12: false});
  put(element, today && !("day" in element.dataset) ? time : `${at.toLocaleDateString()} ${time}`);
}

// The sign: live, or how old what is shown is.
// ``seen``: when the figures were so; ``spoke``: when the connection last showed life, or was tried.
let slept = 0, mono = performance.now(), wall = Date.now(), seen = mono, spoke = mono;
let source, heard = false, away = false, out = false, checking = false, told = "";
let since = new URLSearchParams(body.dataset.listen.split("?")[1]).get("since");

// A machine that sleeps may stop the one clock, but not the other: what is shown is as old as either says.
function now() {
  const gap = Date.now() - wall - (performance.now() - mono);
  if (gap > CHECK_MS) slept += gap;
  [mono, wall] = [performance.now(), Date.now()];
  return mono + slept;
}

function sign() {
  const at = now(), age = `${Math.round((at - seen) / 1000)} s`;
  let kind = "live", text = "Live";
  if (out) [kind, text] = ["out", "Logged out: load the page"];
  else if (heard && source.readyState !== EventSource.OPEN) [kind, text] = ["stale", `Reconnecting, ${age} old`];
  else if (at - spoke > STALE_MS) [kind, text] = ["stale", `Stale for ${age}`];
  else if (away) [kind, text] = ["away", `No record for ${age}`];
  else if (!heard) [kind, text] = ["still", "Connecting"];
  byId("sign").dataset.sign = kind;
  put(byId("sign-text"), text);
  if (kind !== told && kind !== "still") {
    if (told || kind !== "live") announce({live: "Live again", stale: "Connection lost: the figures are old", away: "The record does not answer", out: "Logged out"}[kind]);
    told = kind;
  }
}

function announce(text) {
  put(byId("announce"), text);
}

function alive() {
  spoke = now();
  heard = true;
}

// What is told.
function listen() {
  if (source) source.close();
  source = new EventSource(`/api/events?page=${encodeURIComponent(room)}&since=${since}`);
  source.addEventListener("page", (event) => {
    since = event.lastEventId;
    alive();
    [seen, away] = [spoke, false];
    if (byId("away")) byId("away").hidden = true;
    show(JSON.parse(event.data));
    sign();
  });
  source.addEventListener("away", () => {
    alive();
    away = true;
    sign();
  });
  source.addEventListener("log", (event) => {
    since = event.lastEventId;
    log(JSON.parse(event.data));
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) check();
    sign();
  });
}

// The browser tries again by itself, but not after a refusal: that may be a session's end, or the room's.
async function check() {
  if (checking || out) return;
  checking = true;
  await new Promise((wake) => setTimeout(wake, AGAIN_MS * (0.5 + Math.random())));
  try {
    const where = room ? `/api/rooms/${encodeURIComponent(room)}` : "/api/session";
    const answer = await fetch(where, {signal: AbortSignal.timeout(WITHIN_MS)});
    if (answer.status === 404) return location.assign("/");
    out = answer.status === 401;
  } catch {
    out = false;
  }
  checking = false;
  if (!out && !document.hidden) listen();
  sign();
}

let consequences = {}, waiting = 0;

function show(page) {
  if (room && !(room in page.rooms)) return location.assign("/"); // it is in the configuration no more
  for (const [name, texts] of Object.entries(page.rooms)) {
    const place = document.querySelector(`[data-room="${CSS.escape(name)}"]`);
    if (!place) continue;
    place.dataset.mark = texts.mark;
    for (const element of place.querySelectorAll("[data-shown]")) put(element, texts[element.dataset.shown]);
  }
  troubled(page.trouble);
  if (page.order) arrange(page.order);
  if (page.consequences) {
    [consequences, waiting] = [page.consequences, page.waiting];
    for (const button of document.querySelectorAll("[data-verb]")) button.disabled = false;
    if (byId("dialog").open) consequence();
  }
}

function troubled(names) {
  const bar = byId("trouble"), text = names.length ? `Rooms to look at: ${names.join(", ")}` : "No room needs you.";
  if (bar.textContent === text) return;
  bar.dataset.count = names.length;
  bar.textContent = names.length ? "Rooms to look at: " : text;
  names.forEach((name, index) => bar.append(index ? ", " : "", link(name)));
  announce(text);
}

function link(name) {
  const element = document.createElement("a");
  element.href = `/rooms/${encodeURIComponent(name)}`;
  element.textContent = name;
  return element;
}

// Rows change places only while nobody is at them; a room that was taken in or out needs the page anew.
function arrange(order) {
  const list = byId("rooms"), rows = new Map([...list.querySelectorAll("[data-room]")].map((row) => [row.dataset.room, row]));
  if (rows.size !== order.length || order.some((name) => !rows.has(name))) return location.reload();
  if (list.matches(":hover, :focus-within") || [...rows.keys()].every((name, index) => name === order[index])) return;
  list.append(...order.map((name) => rows.get(name)));
}

function log(line) {
  const item = document.createElement("li"), at = document.createElement("time");
  const who = document.createElement("b"), did = document.createElement("span");
  at.dateTime = new Date(line.at_ms).toISOString();
  localTime(at);
  who.textContent = line.who;
  did.textContent = line.did;
  if (room && line.room !== room) return;
  item.append(at, " ", ...(room ? [] : [link(line.room), " "]), who, " ", did);
  byId("log").prepend(item);
  while (byId("log").children.length > body.dataset.log) byId("log").lastElementChild.remove();
}

// The verbs.
const SETTINGS = {
  new_users_per_minute: ["People a minute", "Empty: as configured"],
  total_active_users: ["People inside", "Empty: as configured"],
  message: ["What everyone who waits is to read, one line", "Empty: no message"],
  stock: ["What is left", "Empty: what the shop states next"],
};
let chosen = null;

function number() {
  return Number(byId("value").value.replaceAll(/[\s,]/g, ""));
}

function consequence() {
  const n = number(), typed = byId("value").value.trim() && Number.isInteger(n) && n > 0;
  put(byId("consequence"), (consequences[chosen.dataset.verb] || "")
    .replaceAll("{n}", typed ? n.toLocaleString("en") : "so many")
    .replaceAll("{minutes}", typed ? minutes(Math.ceil(waiting / n)) : "some time"));
}

function minutes(count) {
  return count === 1 ? "1 minute" : `${count.toLocaleString("en")} minutes`;
}

function ask(button) {
  chosen = button;
  const {setting, verb} = button.dataset, grave = "asks" in button.dataset, [label, hint] = SETTINGS[setting] || ["", ""];
  put(byId("dialog-title"), `${room}: ${button.textContent}`);
  put(byId("go"), button.textContent);
  put(byId("value-label"), label);
  put(byId("value-hint"), hint);
  put(byId("refusal"), "");
  byId("value-row").hidden = !setting;
  byId("value").inputMode = setting === "message" ? "text" : "numeric";
  byId("value").maxLength = setting === "message" ? 500 : 12;
  byId("keep-row").hidden = verb !== "reset";
  byId("name-row").hidden = verb !== "reset";
  for (const id of ["value", "name"]) byId(id).value = "";
  byId("keep").checked = true;
  byId("dialog").className = grave ? "grave" : "";
  consequence();
  ready();
  byId("dialog").showModal();
  (setting ? byId("value") : verb === "reset" ? byId("name") : byId("cancel")).focus();
}

function ready() {
  byId("go").disabled = !byId("name-row").hidden && byId("name").value.trim() !== room;
}

function words() {
  const {setting, says, verb} = chosen.dataset, said = JSON.parse(says), typed = byId("value").value.trim();
  if (setting === "message") said.message = typed || null;
  else if (setting) said[setting] = typed ? number() : null;
  if (verb === "reset" && byId("keep").checked) said.keep_inside = true;
  if (setting && typeof said[setting] === "number" && !Number.isInteger(said[setting])) throw new RangeError("Write a whole number.");
  return said;
}

async function go(event) {
  event.preventDefault();
  if (byId("go").disabled) return;
  const button = chosen, here = () => byId("dialog").open && chosen === button; // it may be left before the answer
  put(byId("refusal"), "");
  byId("go").disabled = true;
  try {
    const answer = await fetch(`/api/rooms/${encodeURIComponent(room)}${button.dataset.path}`, {
      method: "POST",
      headers: {"Content-Type": "application/json", "Waitroom-Csrf": body.dataset.csrf},
      body: JSON.stringify(words()),
      signal: AbortSignal.timeout(WITHIN_MS),
    });
    const found = await answer.json();
    if (!answer.ok) throw new RangeError(found.message);
    if (here()) byId("dialog").close();
    const still = JSON.parse(button.dataset.still)[found.state];
    put(byId("result"), still ? `${button.textContent}: said, but ${room} ${still}.` : `${button.textContent}: done. ${room} is ${found.state}.`);
  } catch (error) {
    const why = error instanceof RangeError ? `Not done: ${error.message}` : "No answer came. It may have been done all the same: look at the log before you say it again.";
    if (here()) put(byId("refusal"), why);
    else put(byId("result"), `${button.textContent}: ${why}`);
  }
  ready();
}

// The charts.
const SVG = "http://www.w3.org/2000/svg", STEPS_A_MINUTE = 12, POINTS = 180;
let hour = null;

function drawn(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// The last steps in bins: sums a minute for what is counted, the last value for what is.
function binned(name, steps) {
  const values = hour[name].slice(1 - steps), size = Math.ceil(steps / POINTS), found = [];
  for (let end = values.length; end > 0; end -= size) {
    const part = values.slice(Math.max(0, end - size), end);
    if (name === "waiting" || name === "inside") found.unshift(part.at(-1));
    else found.unshift(part.includes(null) ? null : part.reduce((sum, one) => sum + one, 0) * STEPS_A_MINUTE / part.length);
  }
  return found;
}

function line(values, x, y) {
  let path = "", pen = false;
  values.forEach((value, index) => {
    const alone = !pen && (values[index + 1] ?? null) === null; // a line of one point would not be seen
    if (value !== null) path += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}${alone ? "h2" : ""}`;
    pen = value !== null;
  });
  return path;
}

function nice(most) {
  const size = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
  return [1, 2, 5, 10].map((step) => step * size).find((top) => top >= most);
}

function chart(figure) {
  const svg = figure.querySelector("svg"), [one, other] = figure.dataset.chart.split(" ");
  const steps = Number(document.querySelector("[name=range]:checked").value);
  const width = svg.clientWidth, height = svg.clientHeight, left = 8, bottom = 22, top = 18;
  const series = [binned(one, steps), binned(other, steps)], known = series.flat().filter((value) => value !== null);
  const most = nice(Math.max(...known, 1)), count = series[0].length;
  const x = (index) => left + index * (width - 2 * left) / (count - 1), y = (value) => top + (1 - value / most) * (height - top - bottom);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(drawn("path", {class: "grid", d: `M${left} ${y(most * share)}H${width - left}`}));
    if (share) parts.push(drawn("text", {x: left, y: y(most * share) - 4}, (most * share).toLocaleString("en")));
  }
  const span = steps / STEPS_A_MINUTE;
  for (const share of [0, 1 / 3, 2 / 3, 1]) {
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    parts.push(drawn("text", {x: left + share * (width - 2 * left), y: height - 4, "text-anchor": anchor}, share === 1 ? "now" : `${Math.round(span * (1 - share))} min ago`));
  }
  series.forEach((values, index) => parts.push(drawn("path", {class: index ? "other" : "one", d: line(values, x, y)})));
  if (!known.length) parts.push(drawn("text", {x: width / 2, y: height / 2, "text-anchor": "middle"}, "Nothing is known yet"));
  svg.replaceChildren(...parts);
  const names = [...figure.querySelectorAll(".legend span")].map((name) => name.textContent);
  put(figure.querySelector(".unseen"), `The last ${minutes(span)}. ` + series.map((values, index) => {
    const seen = values.filter((value) => value !== null);
    return seen.length ? `${names[index]}: at most ${Math.max(...seen).toLocaleString("en")}, now ${seen.at(-1).toLocaleString("en")}.` : `${names[index]}: not known yet.`;
  }).join(" "));
}

function table() {
  const rows = document.querySelectorAll("#minutes tbody tr"), size = STEPS_A_MINUTE;
  rows.forEach((row, index) => {
    const end = hour.joined.length - index * size;
    ["joined", "admitted", "waiting", "inside"].forEach((name, column) => {
      const part = hour[name].slice(Math.max(0, end - size), end);
      const value = column < 2 ? (part.length === size && !part.includes(null) ? part.reduce((sum, one) => sum + one, 0) : null) : part.filter((one) => one !== null).at(-1) ?? null;
      put(row.cells[column + 1], value === null ? "–" : value.toLocaleString("en"));
    });
  });
}

function draw() {
  if (!hour) return;
  document.querySelectorAll("[data-chart]").forEach(chart);
  if (byId("minutes").open) table();
}

async function remember() {
  if (!document.hidden && !out) {
    try {
      const answer = await fetch(`/api/rooms/${encodeURIComponent(room)}/history`, {signal: AbortSignal.timeout(WITHIN_MS)});
      if (answer.ok) hour = await answer.json();
      draw();
    } catch {
      // The sign says how old everything is.
    }
  }
  setTimeout(remember, hour ? hour.step_s * 1000 : AGAIN_MS);
}

// Begin.
document.querySelectorAll("time").forEach(localTime);
if (!document.hidden) listen();
sign();
setInterval(() => {
  if (document.hidden) return;
  sign();
  if (now() - spoke > DEAD_MS && !checking && !out) {
    spoke = now() - STALE_MS;
    listen();
  }
}, CHECK_MS);
// A browser has six connections for a host: pages behind others leave theirs to those that are looked at.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) source?.close();
  else if (!out) listen();
});
byId("logout").hidden = false;
byId("logout").addEventListener("click", async () => {
  await fetch("/logout", {method: "POST", headers: {"Waitroom-Csrf": body.dataset.csrf}}).catch(() => {});
  location.assign("/");
});
if (room) {
  byId("range").hidden = false;
  byId("verbs").addEventListener("click", (event) => event.target.dataset.verb && ask(event.target));
  byId("form").addEventListener("submit", go);
  byId("form").addEventListener("input", () => { ready(); consequence(); });
  byId("cancel").addEventListener("click", () => byId("dialog").close());
  byId("range").addEventListener("change", draw);
  byId("minutes").addEventListener("toggle", draw);
  new ResizeObserver(draw).observe(document.querySelector(".charts"));
  remember();
}

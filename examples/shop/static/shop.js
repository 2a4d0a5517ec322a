// Keeps the line about the launch true on a page that stays open. Without this script the line is as old as the page.
"use strict";
const ASK_EVERY_MS = 15000;
const line = document.querySelector("[data-stock]");

async function ask() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/stock", { credentials: "omit" });
    if (!answer.ok) return;
    const soldOut = (await answer.json()).sold_out === true;
    line.querySelector("[data-on-sale]").hidden = soldOut;
    line.querySelector("[data-sold-out]").hidden = !soldOut;
  } catch {
    // The shop is away for a moment; the line stays as it is and the next question tells.
  }
}

if (line) {
  setInterval(ask, ASK_EVERY_MS);
  document.addEventListener("visibilitychange", ask);
}

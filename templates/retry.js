// Loads the page again after the time the server gave, spread by chance so that a crowd does not return as one, and
// only while somebody may be looking: a tab in the background tries when it comes to the front.
(() => {
  const page = document.getElementById("page").dataset;
  if (!page.retry) return;
  const due = Date.now() + page.retry * 1000 * (1 + Math.random() * page.jitter);
  const look = () => {
    if (!document.hidden && Date.now() >= due) location.replace(page.url);
    else setTimeout(look, Math.min(Math.max(due - Date.now(), 1000), 60000));
  };
  look();
})();

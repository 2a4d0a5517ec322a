// Sends the form once. By itself only if it can note that it did, and has not just done so: whatever makes the server
// show this page again, the second is left to the visitor. A field may be called like any property of the form, so no
// property of the form is used.
(() => {
  const here = location.href;
  const button = document.getElementById("send");
  const key = "waitroom " + location.pathname;
  let sent = false;
  const send = () => {
    if (sent) return;
    sent = true;
    button.disabled = true;
    history.replaceState(null, "", document.getElementById("page").dataset.trail);
    HTMLFormElement.prototype.submit.call(document.getElementById("form"));
    setTimeout(() => history.replaceState(null, "", here), 2000);
  };
  button.addEventListener("click", (event) => {
    event.preventDefault();
    send();
  });
  try {
    if (Math.abs(Date.now() - sessionStorage.getItem(key)) < 30000) return;
    sessionStorage.setItem(key, Date.now());
  } catch {
    return;
  }
  send();
})();

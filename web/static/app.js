/* What HTML cannot do by itself: local times, questions before danger, examples to click, upload progress. No page needs it. */
"use strict";

const written = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function writeTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) time.textContent = written.format(moment);
  }
}

function say(tone, sentence) {
  const notices = document.getElementById("notices");
  if (!notices) return;
  let notice = notices.querySelector(".notice[data-said]");
  if (!notice) {
    notice = document.createElement("div");
    notice.dataset.said = "";
    notices.append(notice);
  }
  notice.className = `notice ${tone}`;
  notice.textContent = sentence;
}

function unsay() {
  document.querySelector("#notices .notice[data-said]")?.remove();
}

document.addEventListener("DOMContentLoaded", () => {
  writeTimes(document);
  document.querySelector("main [aria-invalid=true]")?.focus(); // of a form that was refused: what is to be mended first
});
document.addEventListener("htmx:load", (event) => writeTimes(event.detail.elt));

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.ask;
  if (question && !window.confirm(question)) event.preventDefault();
});

/* <button data-fill="#field" data-text="…"> puts an example into a field, as if it had been typed. */
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-fill]");
  if (!button) return;
  const field = document.querySelector(button.dataset.fill);
  field.value = button.dataset.text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.focus();
});

/* A form with a <progress data-upload> shows how much of its file has left. */
document.addEventListener("htmx:xhr:progress", (event) => {
  const bar = event.target.querySelector?.("progress[data-upload]");
  if (!bar || !event.detail.lengthComputable) return;
  bar.hidden = false;
  bar.max = event.detail.total;
  bar.value = event.detail.loaded;
});

document.addEventListener("htmx:sendError", () => say("warn", "Millrace cannot be reached. This page tries again by itself."));
document.addEventListener("htmx:timeout", () => say("warn", "That takes long. This page tries again by itself."));
document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  if (status === 503) say("warn", "Millrace is out of breath. This page tries again by itself.");
  else if (status === 400) say("bad", "This page is too old. Please reload it.");
  else say("bad", `That did not work (${status}).`);
});
document.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.xhr.status < 400) unsay();
});

/* /docs in the theme that the console was left in, else the system's; and without a link inside a button. */
(() => {
  "use strict";

  const system = matchMedia("(prefers-color-scheme: dark)");

  function theme() {
    let chosen = "auto";
    try {
      chosen = JSON.parse(localStorage.getItem("adminTheme")) || "auto";
    } catch {
      // not ours
    }
    const dark = chosen === "dark" || (chosen === "auto" && system.matches);
    document.documentElement.classList.toggle("dark-mode", dark);
  }

  function flatten() {
    for (const link of document.querySelectorAll(".opblock-summary-control a[href]")) link.removeAttribute("href");
  }

  theme();
  system.addEventListener("change", theme);
  addEventListener("DOMContentLoaded", () => {
    new MutationObserver(flatten).observe(document.body, { childList: true, subtree: true });
  });
})();

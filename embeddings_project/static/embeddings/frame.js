/* What unfold's attributes need of Alpine's CSP build (alpine/alpine.csp.js: @alpinejs/csp 3.17.4, MIT), which evaluates
   them itself and so reaches no global by name; and keys for what unfold makes clickable only. */
(() => {
  "use strict";

  const STORED = "sidebarDesktopOpen";

  function frame() {
    return {
      activeTab: "",
      sidebarMobileOpen: false,
      sidebarDesktopOpen: localStorage.getItem(STORED) !== "0",
      // The little of window that unfold's expressions read and set.
      window: {
        location: {
          get pathname() { return location.pathname; },
          get search() { return location.search; },
          get hash() { return location.hash; },
          get href() { return location.href; },
          set href(address) { location.href = address; },
        },
      },
      init() {
        this.activeTab = getCurrentTab() || this.$el.dataset.firstTab || "";
        this.$watch("sidebarDesktopOpen", (open) => localStorage.setItem(STORED, open ? "1" : "0"));
      },
    };
  }

  addEventListener("alpine:init", () => {
    Alpine.data("frame", frame);
    for (const made of [theme, searchForm, searchDropdown, searchCommand]) Alpine.data(made.name, made);
  });

  // Words for icons that stand alone.
  const WORDS = { search: "Search", more_vert: "More", more_horiz: "More", scatter_plot: "Overview", add: "Add" };

  function nameless(one, icon) {
    return icon && one.textContent.trim() === icon.textContent.trim() && !one.title && !one.hasAttribute("aria-label");
  }

  const PRESSED = ["div", "span", "td", "h3", "a:not([href])", "li"].map((tag) => `${tag}[x-on\\:click]`).join();

  // What is clicked can be reached by Tab, too, and pressed by Enter or Space.
  function reachable(root) {
    for (const one of root.querySelectorAll(PRESSED)) {
      if (one.hasAttribute("role") || one.id === "changelist-filter-close") continue;
      one.setAttribute("role", "button");
      one.setAttribute("tabindex", "0");
    }
    for (const icon of root.querySelectorAll(".material-symbols-outlined")) {
      const one = icon.closest("a, button, [role=button]");
      if (one && nameless(one, icon)) one.setAttribute("aria-label", WORDS[icon.textContent.trim()] || "More");
      if (one !== icon) icon.setAttribute("aria-hidden", "true");
    }
    for (const hint of root.querySelectorAll(".help-tooltip[aria-label]")) hint.setAttribute("role", "img");
  }

  addEventListener("keydown", (event) => {
    const one = event.target;
    if (!["Enter", " "].includes(event.key) || !one.matches?.("[role=button]") || one.matches("button, a[href]")) return;
    event.preventDefault();
    one.click();
  });
  addEventListener("DOMContentLoaded", () => reachable(document));
  addEventListener("load", () => reachable(document)); // after Django's own scripts, which come before
  addEventListener("alpine:initialized", () => reachable(document));
  addEventListener("htmx:afterSettle", (event) => reachable(event.target));
})();

/* /docs in the theme that the console was left in, or the system's. */
(() => {
  "use strict";
})();

// The filters of the Ledger page, which work without a server; a page without a filter is left alone.
document.addEventListener("DOMContentLoaded", () => {
  const selects = [...document.querySelectorAll("select[data-filter]")];
  const rows = [...document.querySelectorAll("table.pg-ledger tbody tr")];
  const apply = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = selects.some((s) => s.value && row.dataset[s.dataset.filter] !== s.value);
      shown += !row.hidden;
    }
    document.querySelector("[data-count]").textContent = `${shown} claims`;
  };
  for (const s of selects) s.addEventListener("change", apply);
});

// A wide equation scrolls in its box, so the keyboard must reach the box.
window.addEventListener("load", () => {
  const reach = () => {
    for (const box of document.querySelectorAll('mjx-container[display="true"]')) box.tabIndex = 0;
  };
  window.MathJax?.startup?.promise?.then(reach);
});

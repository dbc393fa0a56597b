// Draws the charts of the page from the JSON that comes with it. The same numbers are in the tables, so without this
// script nothing is lost: tables are open then, and are closed here.
"use strict";
(() => {
  const LIGHT = {
    created: "#3466a5", paid: "#1b8a6b", reopened: "#7b5aa6", expired: "#cf8a1c", cancelled: "#8b959d", late: "#b8432b",
    quiet: "#d5dce2", ink: "#1c2227", soft: "#5c6770", line: "#e6e9ec",
  };
  const DARK = {
    created: "#7fb0ea", paid: "#55c49d", reopened: "#b597de", expired: "#e9b254", cancelled: "#87929b", late: "#ee8168",
    quiet: "#3a444b", ink: "#e6eaed", soft: "#9aa6af", line: "#2b3338",
  };
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let charts = [];

  // 0.012 s is 12 ms to people.
  function shown(value, unit, places) {
    if (value === null || value === undefined) return "none";
    if (unit === "s" && Math.abs(value) < 1) return `${Number((value * 1000).toPrecision(3))} ms`;
    const digits = { maximumFractionDigits: unit === "%" ? 1 : Math.max(3, places || 0), minimumFractionDigits: places };
    const number = value.toLocaleString("en", digits);
    return unit === "" ? number : `${number} ${unit}`;
  }

  function dataset(one, theme) {
    return {
      type: one.line ? "line" : "bar", label: one.label, data: one.values, amounts: one.amounts,
      backgroundColor: theme[one.color], borderColor: theme[one.color],
      stack: one.stack || one.label, order: one.line ? 0 : 1, ...(one.axis ? { yAxisID: one.axis } : {}),
      tension: 0, borderWidth: one.line ? 2 : 0, pointRadius: one.values.length > 1 ? 0 : 3,
      pointStyle: one.line ? "line" : "rect", pointHoverRadius: 6, maxBarThickness: 44,
      categoryPercentage: 0.86, barPercentage: 0.94,
    };
  }

  function short(label) {
    return label.length > 24 ? `${label.slice(0, 23)}…` : label;
  }

  function scales(spec, theme) {
    const stacked = spec.series.some((one) => one.stack);
    const value = {
      stacked, beginAtZero: true, grid: { color: theme.line }, border: { display: false },
      ticks: { color: theme.soft, maxTicksLimit: 6, callback: (tick) => shown(tick, spec.unit, spec.places) },
    };
    if (spec.unit === "") value.ticks.precision = 0;
    if (spec.unit === "%") value.max = 100;
    const category = {
      stacked, grid: { display: false },
      ticks: {
        color: theme.soft, autoSkip: !spec.horizontal, autoSkipPadding: 14, maxRotation: 0,
        callback(tick) { return short(spec.ticks ? spec.ticks[tick] : String(this.getLabelForValue(tick))); },
      },
    };
    const both = spec.horizontal ? { x: value, y: category } : { x: category, y: value };
    if (spec.series.some((one) => one.axis === "load")) {
      both.load = {
        position: "right", beginAtZero: true, grid: { drawOnChartArea: false }, border: { display: false },
        ticks: { color: theme.soft, precision: 0, maxTicksLimit: 6 },
        title: { display: true, text: "orders", color: theme.soft },
      };
    }
    return both;
  }

  function draw(spec, theme) {
    const canvas = document.querySelector(`#${CSS.escape(spec.name)} canvas`);
    const label = (item) => {
      const amount = item.dataset.amounts && item.dataset.amounts[item.dataIndex];
      const value = spec.horizontal ? item.parsed.x : item.parsed.y;
      const unit = item.dataset.yAxisID === "load" ? "" : spec.unit;
      return ` ${item.dataset.label}: ${amount === undefined ? shown(value, unit) : amount}`;
    };
    return new Chart(canvas, {
      type: "bar",
      data: { labels: spec.labels, datasets: spec.series.map((one) => dataset(one, theme)) },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, indexAxis: spec.horizontal ? "y" : "x",
        interaction: { mode: "index", axis: spec.horizontal ? "y" : "x", intersect: false },
        scales: scales(spec, theme),
        plugins: {
          legend: {
            position: "bottom",
            labels: { color: theme.ink, usePointStyle: true, boxWidth: 14, boxHeight: 10, padding: 12 },
          },
          tooltip: { callbacks: { label } },
        },
      },
    });
  }

  // Charts keep colors that they have resolved, so others need other charts.
  function drawAll(theme) {
    for (const chart of charts) chart.destroy();
    charts = data.charts.map((spec) => draw(spec, theme));
  }

  const drawForScreen = () => drawAll(dark.matches ? DARK : LIGHT);

  document.documentElement.classList.add("drawn");
  const tables = document.querySelectorAll("figure details");
  for (const one of tables) one.open = false;
  drawForScreen();
  dark.addEventListener("change", drawForScreen);

  // Paper is light, and what can be opened is opened. Afterwards all is as it was.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...tables].filter((one) => !one.open);
    for (const one of opened) one.open = true;
    drawAll(LIGHT);
    for (const chart of charts) chart.resize(640, 260);
  });
  window.addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
    drawForScreen();
  });
})();

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
  const charts = [];

  const colors = () => (dark.matches ? DARK : LIGHT);

  // 0.012 s is 12 ms to people.
  function shown(value, unit, places) {
    if (value === null || value === undefined) return "none";
    if (unit === "s" && Math.abs(value) < 1) return `${Number((value * 1000).toPrecision(3))} ms`;
    const number = value.toLocaleString("en", { maximumFractionDigits: unit === "%" ? 1 : 3, minimumFractionDigits: places || 0 });
    return unit === "" ? number : `${number} ${unit}`;
  }

  function dataset(one) {
    return {
      type: one.line ? "line" : "bar", label: one.label, data: one.values, amounts: one.amounts, colorName: one.color,
      stack: one.stack || one.label, yAxisID: undefined, order: one.line ? 0 : 1, axis: one.axis,
      tension: 0, borderWidth: one.line ? 2 : 0, pointRadius: one.values.length > 1 ? 0 : 3,
      pointStyle: one.line ? "line" : "rect", pointHoverRadius: 6, spanGaps: false, maxBarThickness: 44, categoryPercentage: 0.86, barPercentage: 0.94,
    };
  }

  function paint(chart, theme) {
    for (const set of chart.data.datasets) {
      set.backgroundColor = set.borderColor = theme[set.colorName];
    }
    for (const scale of Object.values(chart.options.scales)) {
      scale.ticks.color = theme.soft;
      scale.grid.color = theme.line;
      if (scale.title) scale.title.color = theme.soft;
    }
    chart.options.plugins.legend.labels.color = theme.ink;
    chart.update("none");
  }

  function short(label) {
    return label.length > 24 ? `${label.slice(0, 23)}…` : label;
  }

  function scales(spec) {
    const stacked = spec.series.some((one) => one.stack);
    const value = {
      stacked, beginAtZero: true, grid: {}, border: { display: false },
      ticks: { maxTicksLimit: 6, callback: (tick) => shown(tick, spec.unit, spec.places) },
    };
    if (spec.unit === "") value.ticks.precision = 0;
    if (spec.unit === "%") value.max = 100;
    const category = {
      stacked, grid: { display: false },
      ticks: {
        autoSkip: !spec.horizontal, autoSkipPadding: 14, maxRotation: 0,
        callback(tick) { return short(spec.ticks ? spec.ticks[tick] : String(this.getLabelForValue(tick))); },
      },
    };
    const both = spec.horizontal ? { x: value, y: category } : { x: category, y: value };
    if (spec.series.some((one) => one.axis === "load")) {
      both.load = {
        position: "right", beginAtZero: true, grid: { drawOnChartArea: false }, border: { display: false },
        ticks: { precision: 0, maxTicksLimit: 6 }, title: { display: true, text: "orders" },
      };
    }
    return both;
  }

  function draw(spec) {
    const canvas = document.querySelector(`#${CSS.escape(spec.name)} canvas`);
    const datasets = spec.series.map(dataset);
    for (const set of datasets) {
      if (set.axis === "load") set.yAxisID = "load";
      else delete set.yAxisID;
      delete set.axis;
    }
    const label = (item) => {
      const amount = item.dataset.amounts && item.dataset.amounts[item.dataIndex];
      const value = spec.horizontal ? item.parsed.x : item.parsed.y;
      const unit = item.dataset.yAxisID === "load" ? "" : spec.unit;
      return ` ${item.dataset.label}: ${amount === undefined ? shown(value, unit) : amount}`;
    };
    const chart = new Chart(canvas, {
      type: "bar",
      data: { labels: spec.labels, datasets },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, indexAxis: spec.horizontal ? "y" : "x",
        interaction: { mode: "index", axis: spec.horizontal ? "y" : "x", intersect: false },
        scales: scales(spec),
        plugins: {
          legend: { position: "bottom", labels: { usePointStyle: true, boxWidth: 14, boxHeight: 10, padding: 12 } },
          tooltip: { callbacks: { label } },
        },
      },
    });
    paint(chart, colors());
    charts.push(chart);
  }

  document.documentElement.classList.add("drawn");
  const tables = document.querySelectorAll("figure details");
  for (const one of tables) one.open = false;
  data.charts.forEach(draw);
  dark.addEventListener("change", () => charts.forEach((chart) => paint(chart, colors())));

  // Paper is light, and what can be opened is opened. Afterwards all is as it was.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...tables].filter((one) => !one.open);
    for (const one of opened) one.open = true;
    for (const chart of charts) {
      paint(chart, LIGHT);
      chart.resize(640, 260);
    }
  });
  window.addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
    for (const chart of charts) {
      chart.resize();
      paint(chart, colors());
    }
  });
})();

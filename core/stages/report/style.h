// The report's style sheet: system fonts, calm spacing, one palette for tables and pictures in a light and a
// dark version. The series colours are chosen to stay apart for colour-blind readers and to keep a contrast
// of 3:1 to their background.
#pragma once

#include <string_view>

namespace infalign::stages {

inline constexpr std::string_view kStyle = R"css(
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --surface: #ffffff; --ink: #1c1e21; --muted: #63686f; --grid: #e6e6e2; --line: #d9d9d4;
  --neutral: #767b82; --accent: #0b6bb8;
  --series-0: #0072b2; --series-1: #c8500a; --series-2: #00896a; --series-3: #b0578d; --series-4: #a87900; --series-5: #4f5bd5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --surface: #1d2024; --ink: #e8e8e4; --muted: #a0a5ad; --grid: #31353a; --line: #3a3f45;
    --neutral: #8d939b; --accent: #7cbcf0;
    --series-0: #5fb0ea; --series-1: #f08a4b; --series-2: #35bf98; --series-3: #dd95c3; --series-4: #e0b040; --series-5: #9aa4ff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 3rem 1.5rem 6rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
}
h1, h2, h3, p { margin: 0; }
h1 { font-size: 2.4rem; line-height: 1.15; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.4rem; line-height: 1.3; letter-spacing: -0.01em; }
h3 { font-size: 0.95rem; font-weight: 600; }
.eyebrow { font-size: 0.85rem; color: var(--muted); margin-bottom: 0.35rem; }
.conclusion { font-size: 1.2rem; line-height: 1.5; margin-top: 1.1rem; max-width: 50rem; }
section { margin-top: 3.25rem; }
section > p { max-width: 46rem; margin-top: 0.5rem; color: var(--muted); }
section > p.absent { font-style: italic; }
.facts { display: flex; flex-wrap: wrap; gap: 0.75rem 2.25rem; margin: 1.75rem 0 0; padding: 1rem 0; border-block: 1px solid var(--line); }
.facts dt { font-size: 0.8rem; color: var(--muted); }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.card { background: var(--surface); border: 1px solid var(--line); border-radius: 10px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.55rem 0.9rem; text-align: right; white-space: nowrap; vertical-align: baseline; }
th:first-child { text-align: left; }
thead th { font-size: 0.8rem; font-weight: 500; color: var(--muted); border-bottom: 1px solid var(--line); }
tbody th { font-weight: 600; }
tbody tr + tr > * { border-top: 1px solid var(--grid); }
.interval { display: block; font-size: 0.8rem; color: var(--muted); font-weight: 400; }
.headline { margin-top: 1.25rem; }
.headline td:nth-child(2) { font-weight: 650; font-size: 1.1rem; }
.differences { margin-top: 1rem; }
.mark { display: inline-block; width: 1.3em; color: var(--c); }
.sub { font-weight: 400; color: var(--muted); font-size: 0.85rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.5rem; margin: 1.1rem 0 0; padding: 0; list-style: none; font-size: 0.9rem; }
.legend .dash { display: inline-block; width: 1.4rem; border-top: 2px solid var(--neutral); vertical-align: middle; margin-right: 0.5rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.25rem; margin-top: 1rem; align-items: start; }
figure { margin: 0; padding: 1rem 1.1rem 0.6rem; }
figure svg { display: block; width: 100%; height: auto; margin-top: 0.4rem; font-family: inherit; }
figure details { margin-top: 0.3rem; }
figcaption { font-weight: 600; font-size: 0.95rem; }
.trouble { font-size: 0.9rem; color: var(--muted); margin: 0.5rem 0; }
summary { cursor: pointer; color: var(--accent); font-size: 0.85rem; }
table.compact { font-size: 0.85rem; }
.compact th, .compact td { padding: 0.25rem 0.6rem; }
.compact .interval { display: inline; margin-left: 0.4rem; }
.example { margin-top: 1.25rem; padding: 1.1rem 1.25rem 1.25rem; }
.prompt { font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 11rem), 1fr)); gap: 1rem; margin-top: 0.9rem; }
.answer { border-top: 3px solid var(--c); padding-top: 0.5rem; }
.answer header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 0.75rem; font-size: 0.85rem; }
.answer .who { font-weight: 600; }
.answer .reward { color: var(--muted); font-variant-numeric: tabular-nums; white-space: nowrap; }
.answer .reward.best { color: var(--ink); font-weight: 600; }
.answer p { margin-top: 0.35rem; white-space: pre-wrap; overflow-wrap: anywhere; }
pre { margin: 0.75rem 0 0; padding: 1rem 1.25rem; overflow-x: auto; font: 0.85rem/1.55 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.guide { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.1rem 2.5rem; margin: 1rem 0 0; }
.guide dt { font-weight: 600; }
.guide dd { margin: 0.15rem 0 0; color: var(--muted); }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.25rem 2rem; margin-top: 1rem; align-items: center; }
.beside p { color: var(--muted); max-width: 34rem; }
.beside p + p { margin-top: 0.8rem; }
@media print { body { max-width: none; padding: 0; } section { break-inside: avoid; } }
)css";

}  // namespace infalign::stages

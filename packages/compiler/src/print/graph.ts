// The graph of a plan: Mermaid for documents, SVG for everything else. No program is needed to see it.

import type { NodeDocument, PlanDocument } from "../pipeline/document.ts";

const SHAPES: Readonly<Record<NodeDocument["kind"], readonly [string, string]>> = {
  function: ["[", "]"],
  expression: ["[/", "/]"],
  llm: ["([", "])"],
  tool: ["[[", "]]"],
  map: ["[(", ")]"],
  branch: ["{", "}"],
};

/** A flowchart in Mermaid. */
export function toMermaid(plan: PlanDocument): string {
  const lines = ["flowchart TD"];
  for (const node of plan.nodes) {
    const [open, close] = SHAPES[node.kind];
    // The condition of a node stands at its edges, and of one without any in it.
    const isRoot = node.needs.length === 0 && node.when !== undefined;
    const when = isRoot ? `<br/><small>when ${escapeMermaid(node.when)}</small>` : "";
    lines.push(`  ${idOf(node.name)}${open}"${node.name}<br/><small>${node.kind}</small>${when}"${close}`);
  }
  for (const node of plan.nodes) {
    const label = node.when === undefined ? "" : `|"${escapeMermaid(node.when)}"|`;
    for (const need of node.needs) lines.push(`  ${idOf(need)} -->${label} ${idOf(node.name)}`);
    for (const before of node.after) lines.push(`  ${idOf(before)} -.-> ${idOf(node.name)}`);
  }
  return `${lines.join("\n")}\n`;
}

/** `end` and a few others are words of Mermaid; what would be the same as another with that is longer, too. */
const idOf = (name: string): string =>
  /^(end|graph|subgraph|style|class|click|default|flowchart)_*$/i.test(name) ? `${name}_` : name;
const escapeMermaid = (text: string): string =>
  text.replace(/[#"|<>]/g, (found) => `#${found.charCodeAt(0)};`).replaceAll("\n", " ");
const escapeXml = (text: string): string =>
  text
    .replace(/(?![\t\n\r])\p{Cc}/gu, "\ufffd")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");

const BOX = { width: 150, height: 44, gapX: 30, gapY: 50, margin: 20 } as const;
const COLOURS: Readonly<Record<NodeDocument["kind"], string>> = {
  function: "#dbeafe",
  expression: "#f3f4f6",
  llm: "#ede9fe",
  tool: "#dcfce7",
  map: "#fef3c7",
  branch: "#fee2e2",
};

/** A drawing: nodes in layers by the longest way to them. */
export function toSvg(plan: PlanDocument): string {
  const layers = layersOf(plan);
  const widest = Math.max(1, ...layers.map((layer) => layer.length));
  const width = widest * (BOX.width + BOX.gapX) - BOX.gapX + 2 * BOX.margin;
  const height = layers.length * (BOX.height + BOX.gapY) - BOX.gapY + 2 * BOX.margin;
  const places = new Map<string, { x: number; y: number }>();
  for (const [row, layer] of layers.entries()) {
    const offset = (width - layer.length * (BOX.width + BOX.gapX) + BOX.gapX) / 2;
    for (const [column, { name }] of layer.entries())
      places.set(name, { x: offset + column * (BOX.width + BOX.gapX), y: BOX.margin + row * (BOX.height + BOX.gapY) });
  }
  const edges = plan.nodes.flatMap((node) => [
    ...node.needs.map((from) => edge(places, from, node.name, false)),
    ...node.after.map((from) => edge(places, from, node.name, true)),
  ]);
  const boxes = plan.nodes.map((node) => box(places, node));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="13">`,
    `<title>${escapeXml(plan.name)}</title>`,
    `<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#6b7280"/></marker></defs>`,
    ...edges,
    ...boxes,
    "</svg>\n",
  ].join("\n");
}

function edge(
  places: ReadonlyMap<string, { x: number; y: number }>,
  from: string,
  to: string,
  isOrder: boolean,
): string {
  const [a, b] = [places.get(from), places.get(to)];
  if (a === undefined || b === undefined) return "";
  const [x1, y1, x2, y2] = [a.x + BOX.width / 2, a.y + BOX.height, b.x + BOX.width / 2, b.y];
  const bend = (y2 - y1) / 2;
  return `<path d="M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}" fill="none" stroke="#6b7280"${isOrder ? ' stroke-dasharray="4 3"' : ""} marker-end="url(#arrow)"/>`;
}

function box(places: ReadonlyMap<string, { x: number; y: number }>, node: NodeDocument): string {
  const { x, y } = places.get(node.name) ?? { x: 0, y: 0 };
  const name = node.name.length > 20 ? `${node.name.slice(0, 19)}…` : node.name;
  const note = node.when === undefined ? node.kind : `${node.kind} · when`;
  const title = [node.description, node.when === undefined ? undefined : `when ${node.when}`]
    .filter((part) => part !== undefined)
    .join("\n");
  return [
    `<g><title>${escapeXml(title === "" ? node.name : title)}</title>`,
    `<rect x="${x}" y="${y}" width="${BOX.width}" height="${BOX.height}" rx="8" fill="${COLOURS[node.kind]}" stroke="#374151"/>`,
    `<text x="${x + BOX.width / 2}" y="${y + 19}" text-anchor="middle" fill="#111827">${escapeXml(name)}</text>`,
    `<text x="${x + BOX.width / 2}" y="${y + 35}" text-anchor="middle" fill="#6b7280" font-size="11">${note}</text></g>`,
  ].join("");
}

function layersOf(plan: PlanDocument): readonly (readonly NodeDocument[])[] {
  const depths = new Map<string, number>();
  const byName = new Map(plan.nodes.map((node) => [node.name, node]));
  const left = new Map(plan.nodes.map((node) => [node.name, node.needs.length + node.after.length]));
  const below = new Map<string, string[]>();
  for (const node of plan.nodes)
    for (const up of [...node.needs, ...node.after]) {
      const list = below.get(up);
      if (list === undefined) below.set(up, [node.name]);
      else list.push(node.name);
    }
  const ready = plan.nodes.filter(({ name }) => left.get(name) === 0).map(({ name }) => name);
  for (const name of ready) depths.set(name, 0);
  for (let name = ready.shift(); name !== undefined; name = ready.shift()) {
    for (const next of below.get(name) ?? []) {
      depths.set(next, Math.max(depths.get(next) ?? 0, (depths.get(name) ?? 0) + 1));
      const rest = (left.get(next) ?? 0) - 1;
      left.set(next, rest);
      if (rest === 0) ready.push(next);
    }
  }
  const layers: NodeDocument[][] = [];
  for (const [name, depth] of depths) {
    const node = byName.get(name);
    if (node !== undefined) (layers[depth] ??= []).push(node);
  }
  return layers;
}

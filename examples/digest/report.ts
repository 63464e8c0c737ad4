// The report: what all documents say together.

import type { Document } from "./document.ts";
import { isManifest } from "./document.ts";

export function toMarkdown(documents: readonly Document[], failed: readonly string[], title: string): string {
  const words = documents.reduce((sum, document) => sum + document.words, 0);
  const links = new Set(documents.flatMap((document) => document.links));
  const packages = new Set(documents.map((document) => document.package));
  return [
    `# ${title}`,
    "",
    `${documents.length} documents of ${packages.size} packages or folders: ${words.toLocaleString("en-US")} words, ${links.size.toLocaleString("en-US")} links.`,
    "",
    "## Topics",
    "",
    ...bars(countBy(readable(documents), ({ topic }) => topic)),
    "",
    "## Licences",
    "",
    ...bars(countBy(licensed(documents), ({ licence }) => licence)),
    "",
    "## Where the links go",
    "",
    ...bars(
      countBy(
        [...links].flatMap((link) => hostOf(link) ?? []),
        (host) => host,
      ).slice(0, 10),
    ),
    "",
    ...byTopic(
      readable(documents),
      new Map(licensed(documents).map((document) => [document.package, document.licence])),
    ),
    ...(failed.length === 0 ? [] : ["## Not read", "", ...failed.map((error) => `- ${error}`), ""]),
  ].join("\n");
}

/** A package is described once: by its README, or by its manifest if it has none. */
function readable(documents: readonly Document[]): readonly Document[] {
  const withReadme = new Set(documents.filter(({ path }) => !isManifest(path)).map((document) => document.package));
  return documents.filter((document) => !isManifest(document.path) || !withReadme.has(document.package));
}

/** A package's licence is what its manifest says, where it has one. */
function licensed(documents: readonly Document[]): readonly Document[] {
  const withManifest = new Set(documents.filter(({ path }) => isManifest(path)).map((document) => document.package));
  return documents.filter((document) => isManifest(document.path) || !withManifest.has(document.package));
}

function byTopic(documents: readonly Document[], licences: ReadonlyMap<string, string>): string[] {
  const groups = Map.groupBy(documents, ({ topic }) => topic);
  return [...groups]
    .toSorted(([, a], [, b]) => b.length - a.length)
    .flatMap(([topic, members]) => [
      `## ${topic[0]?.toUpperCase() ?? ""}${topic.slice(1)}`,
      "",
      ...members
        .toSorted((a, b) => (a.package < b.package ? -1 : 1))
        .map((document) => line(document, licences.get(document.package) ?? document.licence)),
      "",
    ]);
}

function line({ package: name, summary, words }: Document, licence: string): string {
  const text = summary.length > 240 ? `${summary.slice(0, 239)}…` : summary;
  return `- **${name}** (${licence}, ${words.toLocaleString("en-US")} words): ${text === "" ? "no prose" : text}`;
}

function countBy<T>(items: readonly T[], key: (item: T) => string): [string, number][] {
  return [...Map.groupBy(items, key)]
    .map(([name, members]): [string, number] => [name, members.length])
    .toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

function bars(counts: readonly [string, number][]): string[] {
  const most = Math.max(1, ...counts.map(([, count]) => count));
  return counts.map(
    ([name, count]) => `- \`${"█".repeat(Math.ceil((count / most) * 20)).padEnd(20, "·")}\` ${count} ${name}`,
  );
}

function hostOf(link: string): string | undefined {
  return URL.canParse(link) ? new URL(link).hostname : undefined;
}

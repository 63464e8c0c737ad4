// `ergos caps`, `why`, `grant`, `revoke`, `asks`, `answer`: what processes may do, and what they ask.

import type { Answer, Ask, Explanation } from "@ergos/kernel";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  UsageError,
  openDirectory,
  readPairs,
  required,
  listOption,
  textOption,
} from "../command.ts";
import { findPid } from "../find-process.ts";
import { type Output, formatMs, table } from "../terminal.ts";

export const capsCommand: Command = {
  name: "caps",
  needsData: true,
  arguments: 1,
  summary: "show what a process may do, and by which grants",
  usage: "<pid|run>",
  examples: ["ergos caps 7", "ergos caps digest-7 --json"],
  run: async (invocation) => {
    const name = required(invocation, 0, "the process");
    await using os = await openDirectory(invocation);
    const { pid, runId } = await findPid(os, name);
    const layers = await os.call("caps", { pid });
    invocation.out.answer(layers, () => {
      if (layers.length === 0) return `${runId} may do everything: neither it nor a process above it was narrowed`;
      const rows = layers.flatMap(({ layer, grants }) => [
        [layerName(layer)],
        ...grants.map(({ id, grant, by }) => [`  ${id}`, by === undefined ? grant : `${grant}   (from process ${by})`]),
        ...(grants.length === 0 ? [["  nothing"]] : []),
      ]);
      return `${table(rows)}\nWhat each layer allows, ${runId} may do.`;
    });
    return EXIT_OK;
  },
};

/** Whose a layer is. */
function layerName(layer: string): string {
  if (layer.startsWith("pass-")) return `what the pass ${layer.split(".")[0]?.slice("pass-".length) ?? ""} gives`;
  if (layer.endsWith(".0")) return `what the program of ${layer.slice(0, -2)} declares`;
  if (layer.endsWith(".1")) return `what the role of ${layer.slice(0, -2)} leaves`;
  return `what process ${layer} was given`;
}

export const whyCommand: Command = {
  name: "why",
  needsData: true,
  arguments: 3,
  summary: "tell whether a process may do something, and which grant decides",
  usage: "<pid|run> <right> <resource> [--arg name=value]...",
  examples: ["ergos why 7 fs.write /srv/report.md", "ergos why 7 tool.call send_mail --arg to=a@example.com"],
  options: { arg: { type: "string", multiple: true } },
  run: async (invocation) => {
    const name = required(invocation, 0, "the process");
    const right = required(invocation, 1, "the right, such as fs.write");
    const resource = required(invocation, 2, "the resource, such as a path");
    await using os = await openDirectory(invocation);
    const { pid, runId } = await findPid(os, name);
    const args = readPairs("arg", listOption(invocation, "arg"));
    const explanation = await os.call("why", { pid, right, resource, arguments: args });
    invocation.out.answer(explanation, (found) => whyText(found, runId, `${right} ${resource}`, invocation.out));
    return explanation.effect === "deny" ? EXIT_FAILED : EXIT_OK;
  },
};

function whyText(
  { effect, layers, missing, policy }: Explanation & { policy?: string },
  runId: string,
  what: string,
  out: Output,
): string {
  const verdict = {
    allow: out.style("green", "may"),
    ask: out.style("yellow", "must ask a person before"),
    deny: out.style("red", "may not"),
  }[effect];
  const reasons = layers.map((layer) => {
    const grant = layer.grant === undefined ? "no grant" : `${layer.grant} (${layer.id ?? ""})`;
    return `  ${layer.effect.padEnd(5)}  ${layer.layer.padEnd(6)}  ${grant}${layer.near === undefined ? "" : `; ${layer.near.join("; ")}`}`;
  });
  return [
    `${runId} ${verdict} ${what}`,
    ...(reasons.length === 0 ? ["  nothing narrows it"] : reasons),
    ...(missing === undefined ? [] : [`it needs the grant ${missing}`]),
    ...(policy === undefined ? [] : [policy]),
  ].join("\n");
}

export const grantCommand: Command = {
  name: "grant",
  needsData: true,
  summary: "add grants to a running process and what is below it; `deny` and `ask` narrow it",
  usage: "<pid|run> <grant>...",
  examples: [
    "ergos grant 7 fs.read:/srv/**",
    "ergos grant 7 'deny net.connect'",
    "ergos grant 7 'tool.call:send_mail; uses=3'",
  ],
  run: async (invocation) => {
    const name = required(invocation, 0, "the process");
    required(invocation, 1, "the grant");
    await using os = await openDirectory(invocation);
    const { pid, runId } = await findPid(os, name);
    const ids = await os.call("grant", { pid, grants: invocation.positionals.slice(1) });
    invocation.out.answer(
      { pid, ids },
      () =>
        `${runId} has ${ids.length === 1 ? "the grant" : "the grants"} ${ids.join(", ")}; take back with: ergos revoke ID`,
    );
    return EXIT_OK;
  },
};

export const revokeCommand: Command = {
  name: "revoke",
  needsData: true,
  summary: "take grants back, from a process and from everything below it, at once",
  usage: "<grant id>...",
  examples: ["ergos revoke 7:3"],
  run: async (invocation) => {
    required(invocation, 0, "the id of a grant; `ergos caps` shows them");
    await using os = await openDirectory(invocation);
    for (const id of invocation.positionals) {
      await os.call("revoke", { id });
      invocation.out.answer({ id }, () => `${id} is revoked`);
    }
    return EXIT_OK;
  },
};

export const asksCommand: Command = {
  name: "asks",
  needsData: true,
  arguments: 0,
  summary: "list questions that wait for a person",
  usage: "",
  examples: ["ergos asks", "ergos asks --json"],
  run: async (invocation) => {
    await using os = await openDirectory(invocation);
    const asks = await os.call("asks", {});
    invocation.out.answer(asks, (list) =>
      list.length === 0 ? "nobody waits for an answer" : list.map((ask) => askText(ask, invocation.out)).join("\n\n"),
    );
    return EXIT_OK;
  },
};

export function askText(ask: Ask, out: Output): string {
  const args =
    ask.args === undefined || (ask.kind === "right" && JSON.stringify(ask.args) === "{}")
      ? []
      : [`  ${JSON.stringify(ask.args)}`];
  const how = ask.kind === "question" ? `ergos answer ${ask.id} --reply ...` : `ergos answer ${ask.id} allow|deny`;
  return [
    `${out.style("bold", `${ask.id}`)}  ${ask.text}  (${ask.runId}, ${formatMs(Date.now() - ask.at)} ago)`,
    ...args,
    `  ${out.style("dim", how)}`,
  ].join("\n");
}

export const answerCommand: Command = {
  name: "answer",
  needsData: true,
  arguments: 2,
  summary: "answer a question of a process: allow, deny, allow with other arguments, or reply",
  usage: "<id> allow|deny|edit [--set name=value]... [--reply TEXT] [--why TEXT]",
  examples: [
    "ergos answer 3 allow",
    "ergos answer 3 deny --why 'not in production'",
    "ergos answer 3 edit --set path=/srv/staging/report.md",
    "ergos answer 4 --reply left",
  ],
  options: {
    set: { type: "string", multiple: true },
    reply: { type: "string" },
    why: { type: "string" },
  },
  run: async (invocation) => {
    const id = Number(required(invocation, 0, "the id of the question"));
    if (!Number.isSafeInteger(id) || id < 1)
      throw new UsageError("the id of a question is a number; `ergos asks` shows them");
    const reply = textOption(invocation, "reply");
    const word = invocation.positionals[1];
    if (reply !== undefined && word !== undefined)
      throw new UsageError(`--reply is an answer by itself; leave out ${word}`);
    const verdict = reply === undefined ? required(invocation, 1, "the answer: allow, deny or edit") : "reply";
    if (!isVerdict(verdict) || (verdict === "reply" && reply === undefined))
      throw new UsageError(`the answer is allow, deny, edit or --reply TEXT, found ${verdict}`);
    const set = listOption(invocation, "set");
    if ((verdict === "edit") !== set.length > 0)
      throw new UsageError("edit goes with --set name=value, and with nothing else does it");
    const why = textOption(invocation, "why");
    const value = verdict === "edit" ? readPairs("set", set) : reply;
    await using os = await openDirectory(invocation);
    await os.call("answer", {
      id,
      verdict,
      ...(value === undefined ? {} : { value }),
      ...(why === undefined ? {} : { why }),
    });
    invocation.out.answer({ id, verdict }, () => `question ${id}: ${verdict}`);
    return EXIT_OK;
  },
};

const isVerdict = (text: string): text is Answer["verdict"] => ["allow", "deny", "edit", "reply"].includes(text);

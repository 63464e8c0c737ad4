// `ergos pass`: capabilities outside of the host.

import { join, resolve } from "node:path";
import {
  type Command,
  EXIT_OK,
  UsageError,
  grantsOption,
  listOption,
  openDirectory,
  required,
  textOption,
} from "../command.ts";
import type { Invocation } from "../command.ts";
import { readAmounts } from "./budget.ts";

export const passCommand: Command = {
  name: "pass",
  arguments: 2,
  summary: "issue, narrow, seal, show or revoke passes, or rotate the keys that sign them",
  usage:
    "issue --cap GRANT... [--ttl 1h] [--user NAME] | issue --virtual NAME [--cap GRANT]... [--ttl 1h] [--user NAME] [--group GROUP] [--limit resource=amount]... | narrow --cap GRANT... [--ttl 1h] | seal | show | revoke <id> | rotate\n  A pass to narrow, seal or show is taken from ERGOS_PASS or from stdin.",
  examples: [
    "ergos pass issue --cap read --cap 'fs.write:/srv/**' --ttl 8h",
    "ERGOS_PASS=$PASS ergos pass narrow --cap 'fs.read:/srv/public/**' --ttl 10m",
    "ergos pass issue --virtual coder --cap self --cap 'fs.*:/srv/code/**' --ttl 8h",
    "ergos pass issue --virtual bob --user bob --group tenants/bob --limit cost=5 --cap self --cap llm --cap 'fs.*:/srv/bob/**'",
    "ERGOS_PASS=$PASS ergos cat /srv/public/report.md",
    "ergos pass revoke p-613PSgcapp6",
  ],
  options: {
    cap: { type: "string", multiple: true },
    ttl: { type: "string" },
    user: { type: "string" },
    virtual: { type: "string" },
    group: { type: "string" },
    limit: { type: "string", multiple: true },
  },
  run: async (invocation) => {
    const what = required(invocation, 0, "what to do: issue, narrow, seal, show, revoke or rotate");
    const { out } = invocation;
    switch (what) {
      case "issue": {
        const name = textOption(invocation, "virtual");
        const grants = name === undefined ? caps(invocation) : grantsOption(invocation, "cap");
        const ttlMs = ttl(invocation);
        const user = textOption(invocation, "user");
        const group = textOption(invocation, "group");
        const budget = readAmounts(listOption(invocation, "limit"));
        if (name === undefined && (group ?? budget) !== undefined)
          throw new UsageError("--group and --limit hold for a place of its own: add --virtual NAME");
        await using os = await openDirectory(invocation);
        const narrowed = grants.length === 0 ? {} : { grants };
        const bounds = { ...(group === undefined ? {} : { group }), ...(budget === undefined ? {} : { budget }) };
        const whose = user === undefined ? {} : { user };
        const as =
          name === undefined ? undefined : await os.spawn("virtual", { name, ...narrowed, ...bounds, ...whose });
        const issued = await os.call("issuePass", {
          ...(as === undefined ? { grants, ...whose } : { as }),
          ...(ttlMs === undefined ? {} : { ttlMs }),
        });
        out.answer({ ...issued, ...(as === undefined ? {} : { pid: as }) }, ({ pass }) => pass);
        if (!out.isJson && out.isTerminal)
          out.error(
            `valid until ${new Date(issued.expires).toISOString()}; take it back with: ergos pass revoke ${issued.id}`,
          );
        return EXIT_OK;
      }
      case "narrow": {
        const { attenuatePass } = await import("../boot.ts");
        const ttlMs = ttl(invocation);
        const narrowed = attenuatePass(await givenPass(), {
          grants: caps(invocation),
          ...(ttlMs === undefined ? {} : { expires: Date.now() + ttlMs }),
        });
        out.answer({ pass: narrowed }, ({ pass }) => pass);
        return EXIT_OK;
      }
      case "seal": {
        const { sealPass } = await import("../boot.ts");
        out.answer({ pass: sealPass(await givenPass()) }, ({ pass }) => pass);
        return EXIT_OK;
      }
      case "show": {
        const { describePass } = await import("../boot.ts");
        out.answer(describePass(await givenPass()), (blocks) => JSON.stringify(blocks, undefined, 2));
        return EXIT_OK;
      }
      case "revoke": {
        const id = required(invocation, 1, "the id of the pass");
        if (!/^p[\w-]{12}$/.test(id))
          throw new UsageError(
            `the id of a pass is a p and twelve characters, as \`ergos pass show\` prints it (jti); found ${JSON.stringify(id)}`,
          );
        await using os = await openDirectory(invocation);
        await os.call("revokePass", { id });
        out.answer({ id }, () => `pass ${id}, and what was narrowed from it, is refused from now on`);
        return EXIT_OK;
      }
      case "rotate": {
        const { openKeys } = await import("../boot.ts");
        const id = openKeys(join(resolve(invocation.dir), "keys")).rotate();
        out.answer(
          { id },
          () => `key ${id} signs from the next start of the host on; passes of older keys stay valid until they expire`,
        );
        return EXIT_OK;
      }
      default:
        throw new UsageError(`pass takes issue, narrow, seal, show, revoke or rotate; found ${what}`);
    }
  },
};

function caps(invocation: Invocation): readonly string[] {
  const grants = grantsOption(invocation, "cap");
  if (grants.length === 0) throw new UsageError("--cap says what the pass allows");
  return grants;
}

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function ttl(invocation: Invocation): number | undefined {
  const text = textOption(invocation, "ttl");
  if (text === undefined) return undefined;
  const [, amount = "", unit = ""] = /^(\d+)([smhd])$/.exec(text) ?? [];
  const ms = Number(amount) * (UNITS[unit] ?? Number.NaN);
  if (!(ms >= 1000))
    throw new UsageError(`--ttl takes a time such as 30s, 10m, 8h or 7d, found ${JSON.stringify(text)}`);
  return ms;
}

async function givenPass(): Promise<string> {
  const { ERGOS_PASS: given } = process.env;
  if (given !== undefined && given !== "") return given;
  if (process.stdin.isTTY) throw new UsageError("there is no pass: set ERGOS_PASS, or give it on stdin");
  let text = "";
  for await (const chunk of process.stdin) text += String(chunk);
  return text.trim();
}

// Writes `docs/reference/cli.md` from the commands.
//
//   node --conditions=@ergos/source tools/cli-reference.ts

import { writeFileSync } from "node:fs";
import { join } from "node:path";

export const CLI_FILE: string = join(import.meta.dirname, "../docs/reference/cli.md");

const HEAD = `# Command line

Every command takes \`--json\` (one stable JSON document), \`--dir DIRECTORY\` (the data directory; \`ERGOS_DIR\` or \`.ergos\` unless given) \`--zone NAME\` (a [zone](../guide/zones.md) of it; \`ERGOS_ZONE\` or the default one) and \`--help\`. While another process owns the directory, commands go to it over its control socket. None waits for a key press without a terminal; \`NO_COLOR\` turns colours off; \`.env\` is read and the real environment wins.

| exit status | means |
| --- | --- |
| 0 | done; for \`validate\` and \`lint\`: no errors; for \`glob\` and \`grep\`: something was found |
| 1 | failed; errors in a manifest; nothing was found |
| 2 | a wrong call: of the command, or with what the kernel refuses as none of its arguments (\`EINVAL\`); for \`validate\` and \`lint\` a file that cannot be read |
| 69 | the Node that runs it is too old |
| 128 + n | the run was ended by signal n; 142: its code blocked the loop, and the watchdog ended the host |

Environment: \`ERGOS_DIR\`, \`ERGOS_ZONE\`, \`ERGOS_STORE\` (\`sqlite\` or \`lmdb\`, for a new data directory), \`ERGOS_MODEL\` (the default model, \`provider/model\`), \`OPENAI_API_KEY\`, \`OPENAI_BASE_URL\`, \`OPENAI_MODEL\` and [the keys of other servers](../guide/models.md), \`ERGOS_PASS\` (act with that pass), \`ERGOS_SECRETS_PASSPHRASE\` (of the file of secrets), \`ERGOS_WATCHDOG_MS\`, \`ERGOS_LOAD_MS\` (how long a module may load), \`NO_COLOR\`.
`;

interface Shown {
  readonly summary: string;
  readonly usage: string;
  readonly examples: readonly string[];
  readonly options?: Readonly<Record<string, unknown>>;
}

/** The page. */
export async function cliReference(): Promise<string> {
  // Not exported by the package: only the command line itself and this page need its table.
  const { COMMANDS } = (await import(join(import.meta.dirname, "../packages/cli/src/commands.ts"))) as {
    COMMANDS: Readonly<Record<string, { load(): Promise<Shown> }>>;
  };
  const { optionText } = (await import(join(import.meta.dirname, "../packages/cli/src/option-help.ts"))) as {
    optionText(command: string, option: string): string | undefined;
  };
  const sections = Object.entries(COMMANDS).map(async ([name, { load }]) => {
    const { summary, usage, examples, options = {} } = await load();
    const meanings = Object.keys(options).map((option) => `| \`--${option}\` | ${optionText(name, option) ?? ""} |`);
    return [
      `## ergos ${name}`,
      "",
      `${summary}.`,
      "",
      "```sh",
      `ergos ${name} ${usage}`.trimEnd(),
      "",
      ...examples,
      "```",
      ...(meanings.length === 0 ? [] : ["", "| option | means |", "| --- | --- |", ...meanings]),
    ].join("\n");
  });
  return `${HEAD}\n${(await Promise.all(sections)).join("\n\n")}\n`;
}

if (import.meta.main) writeFileSync(CLI_FILE, await cliReference());

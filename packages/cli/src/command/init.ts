// `ergos init`: a first pipeline, ready to run without a key.

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { manifestJsonSchema } from "@ergos/compiler";
import { KernelError } from "@ergos/kernel";
import { type Command, EXIT_OK, isSet } from "../command.ts";

const PIPELINE = (name: string): string => `# yaml-language-server: $schema=./ergos.schema.json
apiVersion: ergos/v1
kind: Pipeline
metadata:
  name: ${name}
  description: Reads notes, summarises each, and writes what is urgent into one report.
spec:
  input_schema:
    type: object
    properties:
      urgent: { type: string, default: deadline, description: word that makes a note urgent }
  defaults:
    timeout: 60s
  mounts:
    # A folder beside this file, seen at /notes.
    - { at: /notes, path: ./notes }
  nodes:
    - name: files
      kind: tool
      tool: list_directory
      arguments: { path: /notes }

    - name: notes
      kind: map
      items: files | selectattr('type', 'eq', 'file')
      key: item.name
      concurrency: 4
      body:
        - name: text
          kind: tool
          tool: read_file
          arguments: { path: "/notes/{{ item.name }}" }
        - name: summary
          kind: llm
          system: You summarise notes in one sentence.
          prompt: "{{ text }}"
          task: { kind: summarise, sentences: 1, text: "{{ text }}" }
        - name: note
          kind: expression
          expressions:
            name: item.name
            summary: summary
            urgent: input.urgent in text

    - name: report
      kind: tool
      tool: write_file
      arguments:
        path: /home/report.md
        content: |
          # Notes
          {% for note in notes %}
          ## {{ note.name }}{% if note.urgent %} (urgent){% endif %}
          {{ note.summary }}
          {% endfor %}

  output: { report: report.path, notes: notes | length, urgent: notes | selectattr('urgent') | map(attribute='name') | list }
  epilogue: |
    {{ output.notes }} notes, {{ output.urgent | length }} urgent.
    The report is at {{ output.report }}; see it with: ergos cat {{ output.report }}
`;

const ENVIRONMENT = `# Copy to .env. Without a key the offline stand-in answers: it extracts and counts, it does not think.
# OPENAI_API_KEY=
# OPENAI_BASE_URL=https://api.openai.com/v1
# ERGOS_MODEL=openai/gpt-4.1-mini
`;

const NOTES: Readonly<Record<string, string>> = {
  "monday.md":
    "The offer for the harbour project has to be out by Thursday. The deadline is fixed. Anna collects the figures, and the drawings are done.\n",
  "tuesday.md": "Coffee machine repaired. The new printer is loud, but it works. Somebody should water the plants.\n",
};

export const initCommand: Command = {
  name: "init",
  arguments: 1,
  summary: "write a first pipeline that runs at once",
  usage: "[directory] [--force]",
  examples: ["ergos init", "ergos init my-pipeline && cd my-pipeline && ergos run pipeline.yaml"],
  options: { force: { type: "boolean" } },
  run: (invocation) => {
    const shown = invocation.positionals[0] ?? ".";
    const folder = resolve(shown);
    const name =
      basename(folder)
        .replaceAll(/[^A-Za-z0-9_]/g, "_")
        .replace(/^[^A-Za-z_]/, "p$&") || "pipeline";
    const files: Readonly<Record<string, string>> = {
      "pipeline.yaml": PIPELINE(name),
      "ergos.schema.json": `${JSON.stringify(manifestJsonSchema(), undefined, 2)}\n`,
      ".env.example": ENVIRONMENT,
      ".gitignore": ".ergos/\n.env\nnode_modules/\n",
      ...Object.fromEntries(Object.entries(NOTES).map(([file, text]) => [join("notes", file), text])),
    };
    const kept: string[] = [];
    if (existsSync(join(folder, "pipeline.yaml")) && !isSet(invocation, "force"))
      throw new KernelError(
        "EEXIST",
        `${join(shown, "pipeline.yaml")} is there already; choose another directory, or --force to write over it`,
      );
    mkdirSync(join(folder, "notes"), { recursive: true });
    for (const [file, text] of Object.entries(files)) {
      // What a project has of its own is not written over.
      if (existsSync(join(folder, file)) && !isSet(invocation, "force")) kept.push(file);
      else writeFileSync(join(folder, file), text);
    }
    const written = Object.keys(files).filter((file) => !kept.includes(file));
    invocation.out.answer({ directory: folder, written, kept }, () =>
      [
        `${written.join(", ")}${kept.length === 0 ? "" : ` (kept: ${kept.join(", ")})`}`,
        "",
        "next:",
        ...(shown === "." ? [] : [`  cd ${/[^\w./-]/.test(shown) ? JSON.stringify(shown) : shown}`]),
        "  ergos run pipeline.yaml",
        "  ergos explain pipeline.spec.nodes",
      ].join("\n"),
    );
    return Promise.resolve(EXIT_OK);
  },
};

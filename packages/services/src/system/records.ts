// A store of records as a service: tables that programs and agents share, in SQL, as far as their rights let them call it.

import type { RecordRow, RecordStore, RecordValue, Schema, ServiceModule } from "@ergos/kernel";

interface Statement {
  readonly sql: string;
  readonly params?: readonly RecordValue[];
}

/** The methods of the service, as `os.service<RecordService>("records")` has them. */
export interface RecordService {
  query(statement: Statement & { readonly from?: "primary" | "replica" }): Promise<readonly RecordRow[]>;
  execute(statement: Statement): Promise<{ readonly changes: number }>;
  transaction(work: { readonly statements: readonly Statement[] }): Promise<readonly (readonly RecordRow[])[]>;
}

const params: Schema = { type: "array", items: { type: ["string", "number", "null"] }, maxItems: 1000 };
const statement: Schema = {
  type: "object",
  properties: { sql: { type: "string", minLength: 1 }, params },
  required: ["sql"],
  additionalProperties: false,
};

/**
 * The service `records` over a store that is opened when it starts: that of a driver, as
 * `recordService(() => PostgresRecordStore.open({ url }))`.
 */
export function recordService(open: () => Promise<RecordStore> | RecordStore, name = "records"): ServiceModule {
  return {
    name,
    description: "tables in SQL; `?` stands for each parameter",
    contract: {
      name: "ergos/records/1",
      methods: {
        query: {
          summary: "rows of a statement; with `from: replica` a copy that may be a little behind answers",
          input: {
            ...statement,
            properties: { ...statement.properties, from: { type: "string", enum: ["primary", "replica"] } },
          },
          tool: "pure",
        },
        execute: { summary: "does a statement; how many rows it has changed", input: statement, tool: "once" },
        transaction: {
          summary: "does several statements, all of them or none; what each gives",
          input: {
            type: "object",
            properties: { statements: { type: "array", items: statement, minItems: 1, maxItems: 1000 } },
            required: ["statements"],
            additionalProperties: false,
          },
          tool: "once",
        },
      },
    },
    create: async () => {
      const store = await open();
      const methods = {
        query: ({ sql, params: values, from }) => store.query(sql, values, from === undefined ? {} : { from }),
        execute: ({ sql, params: values }) => store.execute(sql, values),
        transaction: ({ statements }) =>
          store.transaction(async (session) => {
            const all: (readonly RecordRow[])[] = [];
            for (const { sql, params: values } of statements) all.push(await session.query(sql, values));
            return all;
          }),
      } satisfies RecordService;
      return {
        ...methods,
        check: async () => {
          await store.query("SELECT 1");
          return { note: store.features.dialect };
        },
        stop: () => store.close(),
      };
    },
  };
}

// `@ergos/compiler/expression`: the one expression language.

export { EXPRESSION_CODES, ExpressionError, type ExpressionCode } from "./error.ts";
export { type EvaluationLimits, type Scope, evaluate, evaluateCondition, objectScope } from "./evaluator.ts";
export { FILTERS } from "./filters.ts";
export { DICT_METHODS, FUNCTIONS, LIST_METHODS, TEXT_METHODS } from "./functions.ts";
export { EXPRESSION_LIMITS } from "./limits.ts";
export { parseExpression } from "./parser.ts";
export { type Reference, referencesOf, templateReferences } from "./references.ts";
export { isTemplate, parseTemplate, renderTemplate, soleExpression } from "./template.ts";
export { TESTS } from "./tests.ts";
export type { Expression, Template } from "./tree.ts";

/** One function for each operation id, typed problems, dates as Date. Used by `make clients` and by the test. */
export default {
  input: "../../../api/v1/openapi.json",
  output: "../../../clients/typescript",
  plugins: [
    "@hey-api/typescript",
    "@hey-api/client-fetch",
    { name: "@hey-api/transformers", dates: true },
    { name: "@hey-api/sdk", transformer: true },
  ],
};

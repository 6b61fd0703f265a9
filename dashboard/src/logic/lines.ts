// Splits a stream of newline-delimited JSON into values, however its bytes arrive.

export class LineParser {
  private rest = "";
  private readonly decoder = new TextDecoder();

  /** Returns the values of the lines that are complete; a line that is not JSON is counted and skipped. */
  feed(bytes: Uint8Array): unknown[] {
    this.rest += this.decoder.decode(bytes, { stream: true });
    const lines = this.rest.split("\n");
    this.rest = lines.pop() ?? "";
    return lines.flatMap((line) => {
      if (!line.trim()) return [];
      try {
        return [JSON.parse(line) as unknown];
      } catch {
        this.invalid += 1;
        return [];
      }
    });
  }

  invalid = 0;
}

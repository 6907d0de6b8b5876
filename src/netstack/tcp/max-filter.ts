/**
 * The greatest value of the last rounds: of at least half as many as asked for and at most all, from two numbers.
 *
 *   previous half │ current half      value = max of both; the halves move on after `rounds / 2`
 */
export class MaxFilter {
  value = 0;
  #current = 0;
  #previous = 0;
  #turn = 0;

  /** @param rounds how long a value counts at most. */
  constructor(readonly rounds: number) {}

  /** A value seen in round `round` (never decreasing). */
  update(round: number, value: number): void {
    const half = this.rounds / 2;
    if (round - this.#turn >= half) {
      this.#previous = round - this.#turn >= this.rounds ? 0 : this.#current;
      this.#current = 0;
      this.#turn = round;
    }
    if (value > this.#current) this.#current = value;
    this.value = Math.max(this.#current, this.#previous);
  }
}

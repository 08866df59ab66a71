// SPDX-License-Identifier: GPL-2.0-or-later
// Work for a guest whose programs are generated while they run: each part prints a line that must
// be the same on every machine, whatever V8 does underneath. Sizes are such that hot parts pass
// through all tiers of the compiler.
//
// usage: node work.mjs [PART…]
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';

function random(seed) {
	let state = seed | 0;
	return () => {
		state = Math.imul(state, 1664525) + 1013904223 | 0;
		return state >>> 8;
	};
}

/* FNV-1a over what is told to it. */
class Sum {
	constructor() { this.value = 0x811c9dc5 | 0; }
	int(x) {
		for (let i = 0; i < 32; i += 8) {
			this.value = Math.imul(this.value ^ (x >>> i & 255), 0x01000193);
		}
		return this;
	}
	double(x) {
		Sum.view.setFloat64(0, Number.isNaN(x) ? NaN : x);
		return this.int(Sum.view.getInt32(0)).int(Sum.view.getInt32(4));
	}
	string(s) {
		for (let i = 0; i < s.length; i++) { this.int(s.charCodeAt(i)); }
		return this;
	}
	toString() { return (this.value >>> 0).toString(16).padStart(8, '0'); }
}
Sum.view = new DataView(new ArrayBuffer(8));

/* --- numbers --------------------------------------------------------------------------------- */

function integers() {
	const sum = new Sum(), next = random(1);
	let a = 1, b = 2, c = 3;
	for (let i = 0; i < 3000000; i++) {
		a = (a ^ b << 5) + c | 0;
		b = Math.imul(b, 0x9e3779b1) ^ a >>> 7;
		c = (c << (a & 31)) ^ (b >> (i & 31)) ^ Math.clz32(a);
		if ((i & 0xffff) === 0) { sum.int(a).int(b).int(c); }
		if (a % 7 === 3) { b = b / 3 | 0; }
	}
	for (let i = 0; i < 300000; i++) {
		const x = next() - 8388608, y = next() % 1000 + 1;
		sum.int(x / y | 0).int(x % y).int(Math.max(x, -y)).int(Math.abs(x));
	}
	return sum;
}

function doubles() {
	const sum = new Sum(), next = random(2), n = 120;
	const a = new Float64Array(n * n), b = new Float32Array(n * n), c = new Float64Array(n * n);
	for (let i = 0; i < n * n; i++) {
		a[i] = next() / 1048576 - 8;
		b[i] = Math.fround(next() / 524288);
	}
	for (let i = 0; i < n; i++) {
		for (let j = 0; j < n; j++) {
			let s = 0;
			for (let k = 0; k < n; k++) { s += a[i * n + k] * b[k * n + j]; }
			c[i * n + j] = s;
		}
	}
	for (const x of c) { sum.double(x); }
	const special = [0, -0, 1, -1, NaN, Infinity, -Infinity, 5e-324, 2 ** 31, -(2 ** 31), 2 ** 32 + 0.5,
		2 ** 53, 1e308, -1e-308, 0.1, Math.PI];
	for (let round = 0; round < 200; round++) {
		for (const x of special) {
			for (const y of special) {
				sum.double(x + y).double(x * y).double(x - y).double(x / y).double(x % y)
					.double(Math.min(x, y)).int(x | 0).int(y >>> 0)
					.int(x < y ? 1 : x > y ? 2 : x === y ? 3 : 4)
					.double(Math.floor(x)).double(Math.round(y)).double(Math.trunc(x)).double(Math.fround(x));
			}
		}
	}
	for (let i = 0; i < 100000; i++) {
		const x = next() / 65536 - 128;
		sum.double(Math.sin(x)).double(Math.exp(x / 8)).double(Math.sqrt(Math.abs(x)))
			.double(Math.atan2(x, i)).double(Math.log(i + 1)).double(Math.cbrt(x));
	}
	return sum;
}

function bigints() {
	const sum = new Sum(), p = (1n << 521n) - 1n;
	let x = 3n, y = 7n;
	for (let i = 0; i < 3000; i++) {
		x = x * x % p + BigInt(i);
		y = (y << 64n) / (x + 1n) ^ x >> 5n | y & 0xffffffffffffffffn;
		if (i % 50 === 0) { sum.string(x.toString(36)).string(BigInt.asIntN(64, y).toString()); }
	}
	return sum;
}

/* --- objects --------------------------------------------------------------------------------- */

/* The same code with types that change: optimised, given up, optimised again. */
function shapes() {
	const sum = new Sum(), next = random(3);
	const add = (a, b) => a + b;
	const get = (o) => o.value;
	const makers = [
		(i) => ({ value: i }), (i) => ({ other: 1, value: i + 0.5 }), (i) => ({ value: 's' + i }),
		(i) => Object.assign(Object.create({ value: i }), { own: i }),
		(i) => new (class { get value() { return -i; } })(), (i) => ({ value: [i, i + 1] }),
		(i) => new Proxy({ value: i }, { get: (t, k) => t[k] * 3 }), (i) => ({ value: BigInt(i) }),
	];
	for (let kind = 0; kind < makers.length; kind++) {
		for (let i = 0; i < 30000; i++) {
			const a = get(makers[kind](i)), b = get(makers[next() % (kind + 1)](i));
			let r;
			try {
				r = String(add(a, b));
			} catch (e) {
				r = e.constructor.name;
			}
			if (i % 100 < kind) { sum.string(r); }
		}
	}
	return sum;
}

function* walk(n, depth) {
	for (let i = 0; i < n; i++) {
		const got = yield i * depth;
		if (got) { yield `got ${got}`; }
		if (depth > 0 && i % 3 === 0) { yield* walk(n - 1, depth - 1); }
	}
}

function generators() {
	const sum = new Sum();
	for (let round = 0; round < 30; round++) {
		const g = walk(7, 5);
		let count = 0;
		for (let r = g.next(); !r.done; r = g.next(++count % 11 === 0 ? count : undefined)) {
			sum.string(String(r.value));
		}
		sum.int(count);
	}
	const recurse = (n) => {
		try {
			if (n === 0) { throw new RangeError('deep'); }
			return recurse(n - 1) + 1;
		} catch (e) {
			if (n % 5 !== 0) { throw e; }
			return n;
		} finally {
			sum.int(n);
		}
	};
	for (let i = 0; i < 3000; i++) { sum.int(recurse(i % 60)); }
	return sum;
}

async function promises() {
	const sum = new Sum();
	const step = async (n) => n === 0 ? 1 : await step(n - 1) + (n % 2 ? await n : n);
	for (let i = 0; i < 300; i++) { sum.int(await step(i % 40)); }
	const all = await Promise.all(Array.from({ length: 2000 }, async (_, i) => { await null; return i * 3; }));
	for (const x of all) { sum.int(x); }
	return sum;
}

/* --- texts ----------------------------------------------------------------------------------- */

function text(n) {
	const next = random(4), words = [];
	for (let i = 0; i < n; i++) {
		const kind = next() % 8, x = next();
		words.push(kind === 0 ? `${x % 2000}-${x % 12 + 1}-${x % 28 + 1}` : kind === 1 ? `user${x % 99}@host${x % 7}.example`
			: kind === 2 ? `"${x.toString(36)}"` : kind === 3 ? '\u00e4\u03bb\u{1f600}'.slice(0, 1 + x % 4)
				: x.toString(26 + kind));
	}
	return words.join(' ');
}

function patterns() {
	const sum = new Sum(), t = text(20000);
	const all = [/\b(\d+)-(\d{1,2})-(\d+)\b/g, /(?<name>[a-z]+\d+)@(?<host>[\w.]+)/gi, /"([^"\\]|\\.)*"/g, /\b(\w)\w*\1\b/g,
		/(?<=")[0-9a-z]+(?=")/g, /\p{L}+/gu, /(a|b|ab)*c?d/g, /(?:(\d)|([a-f]))+?[g-z]/g, /^|\s(?!\d)\S{9,}/g, /[^\x00-\x7f]/gu];
	for (const p of all) {
		let count = 0;
		for (const m of t.matchAll(p)) {
			count++;
			if (count % 17 === 0) { sum.string(m[0]).int(m.index); }
		}
		sum.int(count).string(t.replace(p, (m) => m.length + '').slice(0, 500)).int(t.search(p));
	}
	for (let i = 0; i < 400; i++) { // each one compiled anew
		const p = new RegExp(`(${i % 10}+|[${String.fromCharCode(97 + i % 26)}-z]{2,${3 + i % 5}})${i % 3 ? '\\d' : '\\b'}`, i % 2 ? 'gi' : 'g');
		sum.int((t.slice(i * 50, i * 50 + 5000).match(p) || []).length);
	}
	return sum;
}

function json() {
	const sum = new Sum(), next = random(5);
	const make = (d) => d === 0 ? [next(), next() / 7, 'x\n"' + next().toString(36), null, true][next() % 5]
		: next() % 2 ? Array.from({ length: next() % 5 + 1 }, () => make(d - 1))
			: Object.fromEntries(Array.from({ length: next() % 5 + 1 }, (_, i) => [`k${i}-${next() % 50}`, make(d - 1)]));
	for (let i = 0; i < 60; i++) {
		const s = JSON.stringify(make(6));
		const back = JSON.stringify(JSON.parse(s), null, i % 3);
		sum.string(s).int(back.length).string(JSON.stringify(JSON.parse(back, (k, v) => typeof v === 'number' ? v | 0 : v)));
	}
	return sum;
}

function collections() {
	const sum = new Sum(), next = random(6), map = new Map(), set = new Set();
	for (let i = 0; i < 200000; i++) {
		const key = 'w' + next() % 5000;
		map.set(key, (map.get(key) || 0) + 1);
		if (next() % 3) { set.add(next() % 4000); } else { set.delete(next() % 4000); }
	}
	const sorted = [...map].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
	for (const [k, v] of sorted.slice(0, 1000)) { sum.string(k).int(v); }
	for (const x of [...set].sort((a, b) => a - b)) { sum.int(x); }
	const typed = Int32Array.from({ length: 100000 }, () => next() * (next() % 2 ? 1 : -1)).sort();
	for (let i = 0; i < typed.length; i += 37) { sum.int(typed[i]); }
	const bytes = new Uint8Array(1 << 20);
	for (let i = 0; i < bytes.length; i++) { bytes[i] = i * i >> 3; }
	bytes.copyWithin(12345, 7, 500000);
	for (let i = 0; i < bytes.length; i += 997) { sum.int(bytes[i] + bytes.indexOf(i & 255, i)); }
	return sum;
}

/* --- code that is made all the time ------------------------------------------------------------ */

/* Functions from texts, each hot for a moment, then garbage. */
function functions() {
	const sum = new Sum(), next = random(7);
	for (let i = 0; i < 600; i++) {
		const ops = Array.from({ length: 3 + next() % 8 }, () => [`a = a + b * ${next()} | 0`, `b = b ^ a >>> ${next() % 31}`,
			`c[a & 15] += b & 255`, `if (a > ${next()}) { a = -a | 0; }`, `b = Math.imul(b, ${next()})`,
			`c[b & 15] = c[a & 15] / 2`][next() % 6]).join('; ');
		const f = new Function('a', 'b', `const c = new Float64Array(16); for (let i = 0; i < ${i % 20 ? 300 : 20000}; i++) { ${ops}; }
			return a ^ b ^ c.reduce((x, y) => x + y | 0, 0);`);
		sum.int(f(i, next()));
	}
	return sum;
}

const leb = (x) => {
	const out = [];
	for (;;) {
		const byte = x & 127;
		x >>= 7;
		if ((x === 0 && !(byte & 64)) || (x === -1 && byte & 64)) { return [...out, byte]; }
		out.push(byte | 128);
	}
};
const section = (id, ...items) => {
	const body = [...leb(items.length), ...items.flat()];
	return [id, ...leb(body.length), ...body];
};
const sized = (body) => [...leb(body.length), ...body];

/* A module: work(n) mixes integers, doubles, memory, and calls by table; lanes(n) vectors. */
function assemble(k1, k2) {
	const i32 = 0x7f, i64 = 0x7e, f64 = 0x7c, get = (n) => [0x20, n], set = (n) => [0x21, n];
	const c32 = (x) => [0x41, ...leb(x)], load = (op, a) => [op, a, 0];
	const helper = (...ops) => sized([0, ...get(0), ...ops.flat(), 0x0b]);
	const work = sized([3, 1, i32, 1, i64, 1, f64, // 1: i, 2: x, 3: d
		0x03, 0x40,
		...get(2), 0x42, ...leb(k1), 0x7e, ...get(1), 0xad, 0x7c, 0x42, 17, 0x89, ...set(2), // x = rotl(x * k1 + i, 17)
		...c32(0), ...get(1), ...c32(0xff8), 0x71, 0x6a, ...get(2), ...load(0x37, 3), // mem[i & ff8] = x
		...get(3), ...get(2), 0xb9, 0x44, 0, 0, 0, 0, 0, 0, 0x70, 0x3e, 0xa2, 0xa0, 0x9f, ...set(3), // d = sqrt(d + x * c)
		...get(2), ...get(1), ...get(1), ...c32(3), 0x71, 0x11, 0, 0, 0xac, 0x85, ...set(2), // x ^= table[i & 3](i)
		...get(2), ...get(1), ...c32(0x7f8), 0x71, ...load(0x29, 3), 0x7d, ...set(2), // x -= mem[i & 7f8]
		...get(1), ...c32(1), 0x6a, 0x22, 1, ...get(0), 0x48, 0x0d, 0, 0x0b,
		...get(2), 0xa7, ...get(2), 0x42, 32, 0x88, 0xa7, 0x73, ...get(3), ...[0xfc, 2], 0x73, 0x0b]);
	const lanes = sized([2, 1, i32, 1, 0x7b,
		...get(0), 0xfd, 17, ...set(2),
		0x03, 0x40,
		...get(2), ...get(1), 0xfd, 17, 0xfd, ...[0xae, 1], // i32x4.add splat(i)
		...c32(k2), 0xfd, 17, 0xfd, ...[0xb5, 1], // i32x4.mul
		...get(2), ...get(2), 0xfd, 13, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 0xfd, 81, // xor its own shuffle
		...c32(5), 0xfd, ...[0xad, 1], // i32x4.shr_u
		...get(1), 0xfd, 17, 0xfd, 80, ...set(2), // or
		...get(1), ...c32(1), 0x6a, 0x22, 1, ...get(0), 0x48, 0x0d, 0, 0x0b,
		...get(2), 0xfd, 27, 0, ...get(2), 0xfd, 27, 3, 0x73, 0x0b]);
	return new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
		...section(1, [0x60, 1, i32, 1, i32]),
		...section(3, [0], [0], [0], [0], [0], [0]),
		...section(4, [0x70, 0, 4]),
		...section(5, [0, 1]),
		...section(7, [4, ...Buffer.from('work'), 0, 4], [5, ...Buffer.from('lanes'), 0, 5]),
		...section(9, [0, ...c32(0), 0x0b, 4, 0, 1, 2, 3]),
		...section(10, helper(c32(k2), 0x6c), helper(c32(3), 0x76, c32(-1), 0x73), helper(0x67),
			helper(c32(k2 | 1), 0x6f), work, lanes)]);
}

async function wasm() {
	const sum = new Sum();
	for (let i = 0; i < 60; i++) {
		const bytes = assemble(0x10001 + i * 2, 77 + i * 1000);
		const { instance } = i % 2 ? await WebAssembly.instantiate(bytes)
			: { instance: new WebAssembly.Instance(new WebAssembly.Module(bytes)) };
		const n = i % 10 ? 2000 : 300000;
		sum.int(instance.exports.work(n)).int(instance.exports.lanes(n));
		try {
			instance.exports.work(-1 - i);
		} catch (e) {
			sum.string(e.constructor.name);
		}
	}
	return sum;
}

/* --- threads --------------------------------------------------------------------------------- */

const WORKERS = 4, SHARE = 20000;

function worker() {
	const shared = new Int32Array(workerData.shared), { id } = workerData;
	const sum = new Sum(), next = random(100 + id);
	for (let i = 0; i < SHARE; i++) {
		Atomics.add(shared, 1, next() & 15);
		while (Atomics.compareExchange(shared, 2, 0, 1) !== 0) { // a lock
			Atomics.wait(shared, 2, 1, 1);
		}
		shared[3] += 1;
		Atomics.store(shared, 2, 0);
		Atomics.notify(shared, 2, 1);
		sum.int(next());
	}
	const f = new Function('n', `let a = ${id}; for (let i = 0; i < n; i++) { a = Math.imul(a, 69069) + i | 0; } return a;`);
	sum.int(f(2000000)).string(String(integers()));
	parentPort.postMessage(sum.toString());
}

async function threads() {
	const shared = new SharedArrayBuffer(64), view = new Int32Array(shared), sum = new Sum();
	const said = await Promise.all(Array.from({ length: WORKERS }, (_, id) => new Promise((done, fail) => {
		const w = new Worker(fileURLToPath(import.meta.url), { workerData: { shared, id } });
		w.on('message', done);
		w.on('error', fail);
	})));
	return sum.string(said.join()).int(view[1]).int(view[3]);
}

const PARTS = { integers, doubles, bigints, shapes, generators, promises, patterns, json, collections, functions, wasm, threads };

if (isMainThread) {
	const wanted = process.argv.slice(2);
	for (const name of wanted.length ? wanted : Object.keys(PARTS)) {
		const part = PARTS[name];
		console.log(name, String(await part()));
	}
} else {
	worker();
}

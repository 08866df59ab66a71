// SPDX-License-Identifier: GPL-2.0-or-later
// Fixed work for the suite, of the kinds that V8 compiles: arithmetic, objects, closures, strings,
// maps, typed arrays, sorting, JSON.
'use strict';

let state = 1;
function random() {
	state = Math.imul(state, 1664525) + 1013904223 | 0;
	return state >>> 8;
}

class Shape {
	area() { return 0; }
}
class Square extends Shape {
	constructor(side) { super(); this.side = side; }
	area() { return this.side * this.side; }
}
class Circle extends Shape {
	constructor(radius) { super(); this.radius = radius; }
	area() { return this.radius * this.radius * 3.140625; }
}

function matrix(n) {
	const a = new Float64Array(n * n), c = new Float64Array(n * n);
	for (let i = 0; i < n * n; i++) { a[i] = random() / 16777216; }
	for (let i = 0; i < n; i++) {
		for (let k = 0; k < n; k++) {
			let sum = 0;
			for (let j = 0; j < n; j++) { sum += a[i * n + j] * a[j * n + k]; }
			c[i * n + k] = sum;
		}
	}
	return c[n + 1];
}

function words(n) {
	const seen = new Map();
	for (let i = 0; i < n; i++) {
		const word = 'w' + random() % 500;
		seen.set(word, (seen.get(word) || 0) + 1);
	}
	const sorted = [...seen].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
	return JSON.parse(JSON.stringify(sorted)).slice(0, 10).map((x) => x.join(':')).join(',').length;
}

function shapes(n) {
	const all = [];
	for (let i = 0; i < n; i++) {
		all.push(i % 3 ? new Square(random() % 10) : new Circle(random() % 10));
	}
	return all.map((s) => s.area()).filter((x) => x > 9).reduce((a, b) => a + b, 0);
}

let sum = 0;
for (let round = Number(process.argv[2]) * 4; round > 0; round--) {
	const part = matrix(48) + words(1500) + shapes(3000);
	sum = (sum * 31 + Math.floor(part * 1024)) % 4294967291;
}
console.log(sum.toString(16).padStart(16, '0'));

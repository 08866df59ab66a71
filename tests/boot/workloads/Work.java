// SPDX-License-Identifier: GPL-2.0-or-later
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.zip.CRC32;
import java.util.zip.CRC32C;
import java.util.zip.Deflater;
import java.util.zip.Inflater;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * Work for a guest whose JVM compiles while it runs: each part prints a line that must be the same
 * on every machine, whatever the compilers and collectors do underneath. Only exact arithmetic.
 *
 * usage: java Work [PART…]
 */
public class Work {
	interface Part {
		long run() throws Exception;
	}

	static long mix(long sum, long x) {
		sum = (sum ^ x) * 0x9e3779b97f4a7c15L;
		return sum ^ sum >>> 29;
	}

	static final class Random {
		private long state;

		Random(long seed) {
			state = seed;
		}

		int next() {
			state = state * 6364136223846793005L + 1442695040888963407L;
			return (int) (state >>> 33);
		}

		int below(int n) {
			return next() % n;
		}
	}

	static byte[] bytes(int n, long seed) {
		Random r = new Random(seed);
		byte[] b = new byte[n];
		for (int i = 0; i < n; i++) {
			b[i] = (byte) (r.next() >> (i & 7));
		}
		return b;
	}

	/* --- numbers ----------------------------------------------------------------------------- */

	static long integers() {
		long sum = 0, x = 1;
		int a = 1, b = 2;
		for (int i = 1; i < 3000000; i++) {
			a = a * 31 + (b >>> 3) ^ Integer.rotateLeft(b, a);
			b += Integer.bitCount(a) + Integer.numberOfLeadingZeros(i ^ a) * Integer.numberOfTrailingZeros(a);
			x = x * 0x5851f42d4c957f2dL + Math.multiplyHigh(x, a) + Long.reverseBytes(x);
			if (i % 16 == 0) {
				sum = mix(sum, x / i + a % i + Math.floorMod(b, i) + Long.divideUnsigned(x, i));
			}
		}
		return mix(mix(sum, a), b);
	}

	static long exact() {
		long sum = 0;
		Random r = new Random(9);
		for (int i = 0; i < 300000; i++) {
			int x = r.next() << 1, y = r.next() << 1;
			try {
				sum = mix(sum, Math.addExact(x, y));
				sum = mix(sum, Math.multiplyExact(x, y & 3));
			} catch (ArithmeticException e) {
				sum = mix(sum, -1);
			}
		}
		return sum;
	}

	static long doubles() {
		final int n = 150;
		Random r = new Random(3);
		double[][] a = new double[n][n], b = new double[n][n];
		for (int i = 0; i < n; i++) {
			for (int j = 0; j < n; j++) {
				a[i][j] = r.below(1000) / 8.0 - 60;
				b[i][j] = r.below(1000) / 16.0;
			}
		}
		long sum = 0;
		for (int i = 0; i < n; i++) {
			for (int j = 0; j < n; j++) {
				double s = 0;
				for (int k = 0; k < n; k++) {
					s += a[i][k] * b[k][j];
				}
				sum = mix(sum, Double.doubleToLongBits(s));
			}
		}
		double[] special = {0, -0.0, 1, -1, Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY,
			Double.MIN_VALUE, Double.MAX_VALUE, 1e-308, 2147483648.0, -2147483649.0, 9.3e18, 0.1};
		for (int round = 0; round < 300; round++) {
			for (double x : special) {
				for (double y : special) {
					double z = Math.fma(x, y, x - y) + x / y + x % y + Math.sqrt(y) + Math.rint(x) + Math.max(x, y);
					sum = mix(sum, Double.doubleToLongBits(z));
					sum = mix(sum, (long) x + (int) y + (char) (float) x);
					sum = mix(sum, Double.compare(x, y) + (x < y ? 8 : x > y ? 16 : 32));
				}
			}
		}
		for (int i = 1; i < 60000; i++) {
			double x = r.next() / 65536.0 - 16384;
			sum = mix(sum, Double.doubleToLongBits(StrictMath.sin(x) + StrictMath.exp(x / 1024) + StrictMath.log(i)
				+ StrictMath.atan2(x, i) + StrictMath.cbrt(x)));
		}
		return sum;
	}

	/* Loops that the compiler turns into vector code. */
	static long vectors() {
		final int n = 10007;
		int[] a = new int[n], b = new int[n], c = new int[n];
		float[] f = new float[n];
		double[] d = new double[n];
		short[] s = new short[n];
		byte[] t = new byte[n];
		long[] l = new long[n];
		long sum = 0;
		for (int i = 0; i < n; i++) {
			a[i] = i * 7 - 1000;
			b[i] = i ^ 0x55;
		}
		for (int round = 0; round < 600; round++) {
			for (int i = 0; i < n; i++) {
				c[i] = a[i] * b[i] + (c[i] >> 3) - round;
			}
			for (int i = 0; i < n; i++) {
				f[i] = f[i] * 0.5f + a[i];
				d[i] = d[i] - b[i] * 0.25;
			}
			for (int i = 0; i < n; i++) {
				s[i] = (short) (s[i] + c[i]);
				t[i] = (byte) (t[i] ^ s[i]);
			}
			for (int i = 0; i < n; i++) {
				l[i] = l[i] * 3 + (c[i] & 0xffffffffL) ^ l[i] >>> 9;
			}
			int total = 0, most = Integer.MIN_VALUE;
			for (int i = 0; i < n; i++) {
				total += c[i];
				most = Math.max(most, a[i] ^ c[i]);
			}
			sum = mix(sum, total + most + Arrays.hashCode(t) + l[round]);
			sum = mix(sum, Arrays.mismatch(c, b) + (Arrays.equals(a, b) ? 1 : 0));
		}
		return mix(mix(mix(sum, Arrays.hashCode(f)), Arrays.hashCode(d)), Arrays.hashCode(l));
	}

	static long bigs() throws Exception {
		BigInteger p = BigInteger.ONE.shiftLeft(2203).subtract(BigInteger.ONE), x = BigInteger.valueOf(3);
		long sum = 0;
		for (int i = 0; i < 12; i++) {
			x = x.modPow(BigInteger.valueOf(65537 + 2 * i), p).add(BigInteger.valueOf(i)).multiply(x).mod(p);
			sum = mix(sum, x.toString().hashCode());
			sum = mix(sum, p.divide(x.add(BigInteger.ONE)).bitCount() + x.gcd(p).intValue());
		}
		return sum;
	}

	/* --- bytes, texts ------------------------------------------------------------------------- */

	static long hashes() throws Exception {
		byte[] data = bytes(1 << 18, 5);
		long sum = 0;
		for (String name : new String[] {"MD5", "SHA-1", "SHA-256", "SHA-512", "SHA3-256"}) {
			for (int i = 0; i < 3; i++) {
				sum = mix(sum, ByteBuffer.wrap(MessageDigest.getInstance(name).digest(data)).getLong());
				data[i]++;
			}
		}
		CRC32 crc = new CRC32();
		CRC32C crc32c = new CRC32C();
		for (int i = 0; i < 60; i++) {
			crc.update(data, i, data.length - 7 * i);
			crc32c.update(data, i * 3, 100000 + i);
			sum = mix(sum, crc.getValue() ^ crc32c.getValue() << 31);
		}
		for (String name : new String[] {"AES/GCM/NoPadding", "AES/CTR/NoPadding", "AES/CBC/PKCS5Padding"}) {
			Cipher cipher = Cipher.getInstance(name), back = Cipher.getInstance(name);
			byte[] iv = bytes(name.contains("GCM") ? 12 : 16, 6);
			var spec = name.contains("GCM") ? new GCMParameterSpec(128, iv) : new javax.crypto.spec.IvParameterSpec(iv);
			cipher.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(bytes(16, 7), "AES"), spec);
			back.init(Cipher.DECRYPT_MODE, new SecretKeySpec(bytes(16, 7), "AES"), spec);
			byte[] secret = cipher.doFinal(data);
			sum = mix(sum, Arrays.hashCode(secret) + (Arrays.equals(back.doFinal(secret), data) ? 1 : 0));
		}
		return sum;
	}

	static long packing() throws Exception {
		byte[] in = texts(30000).getBytes(StandardCharsets.UTF_8);
		long sum = 0;
		for (int level = 1; level <= 9; level += 4) {
			Deflater deflater = new Deflater(level);
			deflater.setInput(in);
			deflater.finish();
			byte[] out = new byte[in.length + 1000], back = new byte[in.length];
			int n = deflater.deflate(out);
			Inflater inflater = new Inflater();
			inflater.setInput(out, 0, n);
			sum = mix(sum, inflater.inflate(back) + (Arrays.equals(in, back) ? 1 : 0));
			sum = mix(sum, java.util.Base64.getEncoder().encodeToString(back).hashCode());
		}
		return sum;
	}

	static String texts(int n) {
		Random r = new Random(11);
		StringBuilder b = new StringBuilder();
		for (int i = 0; i < n; i++) {
			switch (r.below(6)) {
			case 0 -> b.append(r.below(3000)).append('-').append(r.below(12) + 1);
			case 1 -> b.append("user" + r.below(99) + "@host" + r.below(9) + ".example");
			case 2 -> b.append(String.format("%05d:%-6s|%x", r.below(99999), "ab", r.next()));
			case 3 -> b.append("\u00e4\u03bb\ud83d\ude00");
			default -> b.append(Integer.toString(r.next(), 36));
			}
			b.append(' ');
		}
		return b.toString();
	}

	static long strings() {
		String t = texts(20000);
		long sum = t.hashCode();
		Map<String, Integer> count = new HashMap<>();
		for (String w : t.split(" ")) {
			count.merge(w, 1, Integer::sum);
			sum = mix(sum, w.toUpperCase().hashCode() + w.indexOf("-1") + w.compareTo("user5") + (w.contains("host") ? 1 : 0));
		}
		for (Map.Entry<String, Integer> e : new TreeMap<>(count).entrySet()) {
			sum = mix(sum, e.getKey().length() * 31L + e.getValue());
		}
		Matcher m = Pattern.compile("(?<name>\\w+)@([a-z]+)(\\d)|(\\d+)-\\b|\\p{L}{3,}").matcher(t);
		while (m.find()) {
			sum = mix(sum, m.start() * 7L + m.end() + (m.group("name") != null ? m.group("name").hashCode() : 0));
		}
		String s = "";
		for (int i = 0; i < 2000; i++) {
			s = s + i + (char) (i & 127) + (i / 3.0) + (i % 2 == 0) + (long) i * i;
			if (s.length() > 5000) {
				sum = mix(sum, s.hashCode() + s.strip().replace("true", "T").length());
				s = s.substring(4000);
			}
		}
		return sum;
	}

	/* --- collections -------------------------------------------------------------------------- */

	record Pair(int key, String name) {}

	static long sorting() {
		Random r = new Random(17);
		int[] a = new int[400000];
		for (int i = 0; i < a.length; i++) {
			a[i] = r.next() - (i & 1) * r.next();
		}
		int[] b = a.clone();
		Arrays.sort(a);
		Arrays.parallelSort(b);
		long sum = Arrays.equals(a, b) ? 1 : 0;
		sum = mix(sum, Arrays.hashCode(a));
		List<Pair> pairs = new ArrayList<>();
		for (int i = 0; i < 60000; i++) {
			pairs.add(new Pair(r.below(5000), "n" + r.below(1000)));
		}
		Collections.sort(pairs, (x, y) -> x.key != y.key ? Integer.compare(x.key, y.key) : x.name.compareTo(y.name));
		for (Pair p : pairs) {
			sum = mix(sum, p.hashCode());
		}
		Map<Integer, Long> groups = pairs.stream().filter(p -> p.key % 3 != 0)
			.collect(Collectors.groupingBy(p -> p.key % 17, TreeMap::new, Collectors.counting()));
		sum = mix(sum, groups.toString().hashCode());
		sum = mix(sum, IntStream.range(0, 1000000).parallel().map(x -> x * x ^ x >> 3).asLongStream().sum());
		Map<Integer, String> cache = new LinkedHashMap<>(16, 0.75f, true) {
			@Override
			protected boolean removeEldestEntry(Map.Entry<Integer, String> e) {
				return size() > 500;
			}
		};
		for (int i = 0; i < 100000; i++) {
			int k = r.below(900);
			String v = cache.get(k);
			cache.put(k, v == null ? "v" + i : v.length() > 20 ? "" : v + (i & 7));
		}
		return mix(sum, cache.toString().hashCode());
	}

	/* Much garbage, some of which lives long: collectors move it and their barriers run. */
	static long garbage() {
		final int kept = 20000;
		Object[][] live = new Object[kept][];
		Random r = new Random(23);
		long sum = 0;
		for (int i = 0; i < 900000; i++) {
			int at = r.below(kept), from = r.below(kept);
			Object[] old = live[at];
			live[at] = new Object[] {i, live[from] == null ? null : live[from][0], new int[1 + (i & 31)]};
			if (old != null) {
				sum = mix(sum, (Integer) old[0] + (old[1] == null ? 7 : (Integer) old[1]) + ((int[]) old[2]).length);
			}
			if (i % 200000 == 0) {
				byte[] big = new byte[24 << 20];
				Arrays.fill(big, (byte) i);
				System.arraycopy(big, 0, big, 1 << 20, 16 << 20);
				sum = mix(sum, Arrays.hashCode(Arrays.copyOfRange(big, 1 << 19, 1 << 21)));
				System.gc();
			}
		}
		return sum;
	}

	/* --- control ------------------------------------------------------------------------------ */

	static int[] nothing;
	static Object holder;

	static int deep(int n) {
		return n == 0 ? 0 : deep(n - 1) + 1;
	}

	static long thrown(int i) {
		try {
			switch (i % 7) {
			case 0:
				return nothing[i];
			case 1:
				return i / (i % 7 - 1);
			case 2:
				return new int[5][2][i % 5].length + new int[3][i % 11 + 3].length;
			case 3:
				return ((String) holder).length();
			case 4:
				return deep(i % 50) + Integer.parseInt("x" + i);
			case 5:
				return (long) new byte[i % 70 - 60].length * 3;
			default:
				throw new IllegalStateException("i" + i);
			}
		} catch (NullPointerException e) {
			return 1;
		} catch (ArithmeticException e) {
			return 2;
		} catch (ClassCastException e) {
			return 3;
		} catch (NumberFormatException e) {
			return e.getMessage().length();
		} catch (NegativeArraySizeException | ArrayIndexOutOfBoundsException e) {
			return 5;
		} catch (IllegalStateException e) {
			return e.getStackTrace().length > 0 ? 6 : 7;
		} finally {
			holder = i % 3 == 0 ? null : i % 3 == 1 ? "s" : Integer.valueOf(i);
		}
	}

	static int endless(int n) {
		return endless(n + 1) + 1;
	}

	static long exceptions() {
		long sum = 0;
		for (int i = 0; i < 70000; i++) {
			// How a trace is filled in depends on the compiler; that one comes does not.
			long x = thrown(i);
			sum = mix(sum, x == 7 ? 6 : x);
		}
		for (int i = 0; i < 5; i++) {
			try {
				endless(0);
			} catch (StackOverflowError e) {
				sum = mix(sum, 77);
			}
		}
		return sum;
	}

	interface Shape {
		long area(long x);
	}

	/* Calls whose receivers change: monomorphic, then not; compiled, given up, compiled again. */
	static long calls() throws Throwable {
		List<Shape> shapes = new ArrayList<>();
		long sum = 0;
		for (int kind = 0; kind < 12; kind++) {
			final int k = kind;
			shapes.add(switch (kind % 4) {
			case 0 -> x -> x * k;
			case 1 -> new Shape() {
				public long area(long x) {
					return x ^ k;
				}
			};
			case 2 -> Long::bitCount;
			default -> x -> x + shapes.size() * k;
			});
			for (int i = 0; i < 60000; i++) {
				sum = mix(sum, shapes.get(i % shapes.size()).area(i));
			}
		}
		var lookup = MethodHandles.lookup();
		var handle = lookup.findStatic(Work.class, "deep", MethodType.methodType(int.class, int.class));
		for (int i = 0; i < 30000; i++) {
			sum = mix(sum, (int) handle.invokeExact(i % 20));
		}
		var method = Work.class.getDeclaredMethod("mix", long.class, long.class);
		for (int i = 0; i < 20000; i++) {
			sum = (Long) method.invoke(null, sum, (long) i);
		}
		return sum;
	}

	/* --- threads ------------------------------------------------------------------------------ */

	static long guarded;
	static volatile int turn;

	static long threads() throws Exception {
		final int count = 4, rounds = 20000;
		ExecutorService pool = Executors.newFixedThreadPool(count);
		AtomicLong atomic = new AtomicLong();
		ConcurrentHashMap<Integer, Integer> map = new ConcurrentHashMap<>();
		CyclicBarrier barrier = new CyclicBarrier(count);
		Object lock = new Object();
		List<Future<Long>> futures = new ArrayList<>();
		guarded = 0;
		turn = 0;
		for (int id = 0; id < count; id++) {
			final int me = id;
			futures.add(pool.submit(() -> {
				Random r = new Random(me);
				long mine = 0;
				for (int i = 0; i < rounds; i++) {
					int x = r.below(100);
					synchronized (lock) {
						guarded += x;
					}
					atomic.addAndGet(x);
					map.merge(x, 1, Integer::sum);
					mine = mix(mine, x);
					if (i % 2000 == 0) {
						barrier.await();
					}
				}
				for (int i = 0; i < 300; i++) { // one after the other
					synchronized (lock) {
						while (turn % count != me) {
							lock.wait();
						}
						turn++;
						lock.notifyAll();
					}
				}
				return mine;
			}));
		}
		long sum = 0;
		for (Future<Long> f : futures) {
			sum = mix(sum, f.get());
		}
		pool.shutdown();
		sum = mix(mix(sum, guarded), atomic.get());
		return mix(mix(sum, new TreeMap<>(map).hashCode()), turn);
	}

	static Part part(String name) {
		return switch (name) {
		case "integers" -> Work::integers;
		case "exact" -> Work::exact;
		case "doubles" -> Work::doubles;
		case "vectors" -> Work::vectors;
		case "bigs" -> Work::bigs;
		case "hashes" -> Work::hashes;
		case "packing" -> Work::packing;
		case "strings" -> Work::strings;
		case "sorting" -> Work::sorting;
		case "garbage" -> Work::garbage;
		case "exceptions" -> Work::exceptions;
		case "calls" -> () -> {
			try {
				return calls();
			} catch (Throwable e) {
				throw new Exception(e);
			}
		};
		case "threads" -> Work::threads;
		default -> throw new IllegalArgumentException(name);
		};
	}

	public static void main(String[] args) throws Exception {
		String[] all = {"integers", "exact", "doubles", "vectors", "bigs", "hashes", "packing", "strings", "sorting",
			"garbage", "exceptions", "calls", "threads"};
		for (String name : args.length > 0 ? args : all) {
			System.out.println(name + " " + Long.toHexString(part(name).run()));
		}
	}
}

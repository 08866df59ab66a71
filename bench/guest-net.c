/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP throughput between a guest and its host; the same program on both ends.
 * The guest connects and says which way the bytes shall go; the receiver's
 * count is what is reported: "bench: WHAT MB_PER_SECOND".
 *
 * usage: guest-net serve PORT           serve for ever
 *        guest-net send|receive ADDRESS PORT SECONDS WHAT
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES 131072

static uint8_t chunk[CHUNK_BYTES];

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t send_until(int fd, double end)
{
	uint64_t sum = 0;
	ssize_t n = 0;

	while (n >= 0 && now_s() < end) {
		n = write(fd, chunk, sizeof(chunk));
		sum += n > 0 ? (uint64_t)n : 0;
	}
	return sum;
}

/* Until the other side ends, or `end`. */
static uint64_t receive_until(int fd, double end)
{
	uint64_t sum = 0;
	ssize_t n;

	do {
		n = read(fd, chunk, sizeof(chunk));
		sum += n > 0 ? (uint64_t)n : 0;
	} while (n > 0 && now_s() < end);
	return sum;
}

/* 's': the client sends and is told how much came; 'r': it receives until it closes. */
static void serve_one(int fd)
{
	char way = 0;
	uint64_t sum;

	if (read(fd, &way, 1) == 1 && way == 's') {
		sum = receive_until(fd, now_s() + 600);
		if (write(fd, &sum, sizeof(sum)) != sizeof(sum)) {
			perror("guest-net: answer");
		}
	} else if (way == 'r') {
		send_until(fd, now_s() + 600);
	}
	close(fd);
}

static int serve(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0) {
		perror("guest-net: serve");
		return 1;
	}
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0) {
			perror("guest-net: accept");
			return 1;
		}
		serve_one(client);
	}
}

static int connect_to(const char *address, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &a.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		perror("guest-net: connect");
		return -1;
	}
	return fd;
}

static int measure(int fd, char way, double seconds, const char *what)
{
	uint64_t sum = 0;
	double begin;

	if (write(fd, &way, 1) != 1) {
		perror("guest-net");
		return 1;
	}
	if (way == 'r') {
		receive_until(fd, now_s() + 0.3); /* the window opens first */
		begin = now_s();
		sum = receive_until(fd, begin + seconds);
	} else {
		begin = now_s();
		send_until(fd, begin + seconds);
		shutdown(fd, SHUT_WR);
		if (recv(fd, &sum, sizeof(sum), MSG_WAITALL) != sizeof(sum)) {
			fprintf(stderr, "guest-net: the server did not answer\n");
			return 1;
		}
	}
	printf("bench: %s %.2f\n", what, (double)sum / (now_s() - begin) / 1e6);
	return 0;
}

int main(int argc, char **argv)
{
	double seconds;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "serve") == 0) {
		return serve((uint16_t)strtoul(argv[2], NULL, 10));
	}
	seconds = argc == 6 ? strtod(argv[4], NULL) : 0;
	if (seconds <= 0 || (strcmp(argv[1], "send") != 0 && strcmp(argv[1], "receive") != 0)) {
		fprintf(stderr, "usage: guest-net serve PORT | "
				"send|receive ADDRESS PORT SECONDS WHAT\n");
		return 2;
	}
	fd = connect_to(argv[2], (uint16_t)strtoul(argv[3], NULL, 10));
	return fd < 0 ? 1 : measure(fd, argv[1][0], seconds, argv[5]);
}

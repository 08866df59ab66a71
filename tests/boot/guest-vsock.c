/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a guest: talk over vsock with the host, for vsock_test.py.
 *
 * usage: guest-vsock connect PORT | guest-vsock serve PORT
 *
 * connect: to the host's PORT; sends "ping", wants "pong" and then the end.
 * serve: takes one connection on PORT and sends back what comes, until its end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* After sys/socket.h, which it needs. */
#include <linux/vm_sockets.h>

static int vsock(struct sockaddr_vm *a, unsigned cid, const char *port)
{
	*a = (struct sockaddr_vm){ .svm_family = AF_VSOCK,
				   .svm_cid = cid,
				   .svm_port = (unsigned)strtoul(port, NULL, 10) };
	return socket(AF_VSOCK, SOCK_STREAM, 0);
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int connect_main(const char *port)
{
	struct sockaddr_vm a;
	int fd = vsock(&a, VMADDR_CID_HOST, port);
	char word[5] = "";

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		return fail("connect");
	}
	if (write(fd, "ping", 4) != 4 || recv(fd, word, 4, MSG_WAITALL) != 4 ||
	    strcmp(word, "pong") != 0 || read(fd, word, 1) != 0) {
		return fail("talk");
	}
	printf("vsock: the host says %s\n", "pong");
	return 0;
}

static int serve_main(const char *port)
{
	struct sockaddr_vm a, peer;
	socklen_t len = sizeof(peer);
	int server = vsock(&a, VMADDR_CID_ANY, port), fd;
	static char buf[16384];
	size_t total = 0;
	ssize_t n;

	if (server < 0 || bind(server, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(server, 4) < 0) {
		return fail("listen");
	}
	printf("vsock: listening\n");
	fflush(stdout);
	fd = accept(server, (struct sockaddr *)&peer, &len);
	if (fd < 0 || peer.svm_cid != VMADDR_CID_HOST) {
		return fail("accept");
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(fd, buf + done, (size_t)(n - done));
			if (w <= 0) {
				return fail("write");
			}
		}
		total += (size_t)n;
	}
	printf("vsock: gave back %zu bytes\n", total);
	return n < 0 ? fail("read") : 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "connect") == 0) {
		return connect_main(argv[2]);
	}
	if (argc == 3 && strcmp(argv[1], "serve") == 0) {
		return serve_main(argv[2]);
	}
	fprintf(stderr, "usage: guest-vsock connect PORT | guest-vsock serve PORT\n");
	return 2;
}

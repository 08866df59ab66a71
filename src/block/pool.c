/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers that do requests by blocking calls. One pool an image, made when it is
 * first needed; a thread is added while requests wait and none is idle.
 *
 * `lock` guards both lists and the counts. Workers write `done_fd` when they
 * put the first request on the done list; the loop takes the whole list at once.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "block/block_int.h"

#define WORKERS_MAX        16
#define WORKER_STACK_BYTES KIB(128) /* workers hold no big locals: an iovec batch is 1 KiB */

struct block_pool {
	struct block *block;
	pthread_mutex_t lock;
	pthread_cond_t work, finished;
	struct block_list todo, done;
	unsigned todo_count, idle, workers;
	bool quit;
	int done_fd;
	pthread_t threads[WORKERS_MAX];
};

static void finish_locked(struct block_pool *p, struct block_req *r)
{
	bool first = !p->done.head;
	uint64_t one = 1;

	block_list_put(&p->done, r);
	if (first) {
		(void)!write(p->done_fd, &one, sizeof(one));
	}
	pthread_cond_signal(&p->finished);
}

static void *worker(void *opaque)
{
	struct block_pool *p = opaque;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct block_req *r;

		while (!p->quit && !p->todo.head) {
			p->idle++;
			pthread_cond_wait(&p->work, &p->lock);
			p->idle--;
		}
		r = block_list_take(&p->todo);
		if (!r) {
			break;
		}
		p->todo_count--;
		pthread_mutex_unlock(&p->lock);
		block_priv(r)->result = block_do(p->block, r);
		pthread_mutex_lock(&p->lock);
		finish_locked(p, r);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static int add_worker_locked(struct block_pool *p)
{
	pthread_attr_t attr;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
	r = pthread_create(&p->threads[p->workers], &attr, worker, p);
	pthread_attr_destroy(&attr);
	if (!r) {
		p->workers++;
	}
	return -r;
}

static bool reap(struct block_pool *p)
{
	struct block_list done;
	struct block_req *r;
	bool any = false;

	pthread_mutex_lock(&p->lock);
	done = p->done;
	p->done = (struct block_list){ 0 };
	pthread_mutex_unlock(&p->lock);
	while ((r = block_list_take(&done))) {
		block_complete(p->block, r, (int)block_priv(r)->result);
		any = true;
	}
	return any;
}

static void done_ready(void *opaque, uint32_t events)
{
	struct block_pool *p = opaque;
	struct block *b = p->block;
	uint64_t counter;

	(void)!read(p->done_fd, &counter, sizeof(counter));
	if (reap(p)) {
		block_batch_end(b);
	}
}

int block_pool_new(struct block *b, struct block_pool **ret)
{
	struct block_pool *p = calloc(1, sizeof(*p));
	int r;

	if (!p) {
		return -ENOMEM;
	}
	p->block = b;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->finished, NULL);
	p->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = p->done_fd < 0 ? -errno : loop_watch_fd(b->loop, p->done_fd, EPOLLIN, done_ready, p);
	if (!r) {
		pthread_mutex_lock(&p->lock);
		r = add_worker_locked(p);
		pthread_mutex_unlock(&p->lock);
	}
	if (r < 0) {
		block_pool_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void block_pool_free(struct block_pool *p)
{
	if (!p) {
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->quit = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->workers; i++) {
		pthread_join(p->threads[i], NULL);
	}
	loop_unwatch_fd(p->block->loop, p->done_fd);
	fd_closep(&p->done_fd);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->finished);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void block_pool_submit(struct block_pool *p, struct block_req *r)
{
	pthread_mutex_lock(&p->lock);
	block_list_put(&p->todo, r);
	p->todo_count++;
	if (p->todo_count > p->idle && p->workers < WORKERS_MAX) {
		/* No thread to be had: those that there are do it, one at least. */
		(void)add_worker_locked(p);
	}
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

void block_pool_wait(struct block_pool *p)
{
	pthread_mutex_lock(&p->lock);
	while (!p->done.head) {
		pthread_cond_wait(&p->finished, &p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	reap(p);
}

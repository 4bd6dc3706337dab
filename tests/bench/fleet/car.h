/* One car's connection (car.c), and what all of them share. swarm.c has the theory. */

#ifndef FREEFLOAT_CAR_H
#define FREEFLOAT_CAR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#if OPENSSL_VERSION_MAJOR < 3
#error "OpenSSL 3 is needed"
#endif

#define BROKER "127.0.0.1"
#define NONE UINT32_MAX /* no entry */

struct part {
    const uint8_t *at;
    size_t size;
};

enum stage { SHAKING, GREETING, SUBSCRIBING, UP };

/* What publishing touches stands in front, so that it is on one line of the cache. */
struct car {
    SSL *ssl;
    int fd;
    uint32_t interest; /* events that epoll has been told */
    uint32_t unacknowledged;
    uint32_t first, last; /* its entries without a receipt, NONE if there is none */
    enum stage stage;
    bool is_watched; /* for what comes */
    bool is_stuck;   /* the socket took no more: backlog waits, or the handshake */
    size_t backlog_size, backlog_room;
    uint8_t *backlog; /* u32 size and bytes of each packet that waits */
    uint8_t *tail;    /* the beginning of a packet whose rest has not come */
    size_t tail_size;
    struct part name, chain, key, connect, subscribe, hello;
};

struct entry {
    uint64_t sequence;
    uint32_t number; /* of its frame */
    uint32_t next;   /* of the same car, or NONE */
};

struct swarm {
    struct sockaddr_in broker;
    SSL_CTX *context;
    int epoll_fd;
    size_t upto_at; /* where a receipt has the last entry's sequence */

    struct car *cars;
    uint32_t car_count;
    uint32_t up_count; /* cars that have connected, subscribed and said HELLO */

    double *published_s; /* of each frame, when it was handed to its socket */
    double *receipt_ms;  /* from publish to receipt, in the order of coming */
    uint32_t receipt_count;
    struct entry *entries; /* one for each ledger entry in the plan */
    uint32_t entry_count;  /* of them published */

    uint64_t acknowledged, unacknowledged, unreceipted; /* over all cars */
    uint64_t reads;
    bool is_publishing;
};

extern struct swarm swarm;

/* Say why, with the car's name unless it is NULL, and end the program. */
__attribute__((noreturn, format(printf, 3, 4))) void
give_up(const char *word, const struct car *car, const char *format, ...);
#define fail(...) give_up("failed", __VA_ARGS__)

/* The same with what OpenSSL or else the system says. */
__attribute__((noreturn)) void fail_tls(const struct car *car, const char *doing);

double now_s(void);
uint64_t number_at(const uint8_t *at, int bytes);

/* realloc that ends the program when there is no memory. */
void *make_room(void *old, size_t size);

/* Connect the car of this place in the plan; the rest follows by events. */
void begin_connection(uint32_t place);

/* Do what epoll's events for this car ask for. */
void attend(struct car *car, uint32_t events);

/* Tell epoll what this car's socket is looked at for, if that changed. */
void watch(struct car *car);

/* Take all that has come. */
void read_car(struct car *car);

/* Note that a receipt is owed for the frame of this number; published next. */
void expect_receipt(struct car *car, uint64_t sequence, uint32_t number);

/* Send a PUBLISH now, or when the socket takes it. */
void publish(struct car *car, const uint8_t *packet, size_t size);

#endif

/* Who tries at mosquitto what its access list refuses: a line of its log for each name.
 *
 * mosquitto 2.0 refuses a publish in silence (only `log_type debug` tells, beside a line
 * for every packet) and grants any subscription, delivering nothing. This observer is
 * asked before the access list, says what is not a name's own, and decides nothing:
 *
 *   cc -O2 -Wall -shared -fPIC -o freefloat_trespass.so freefloat_trespass.c
 *
 * needs mosquitto's headers (Debian: mosquitto-dev, libmosquitto-dev), and
 * `plugin /path/freefloat_trespass.so` in mosquitto.conf loads it; docs/operations.md, 3.
 * Its lines have the form of nats-server's, so that one reader reads both
 * (bridge/broker/trespass.py).
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#define PREFIX "ff/v1/"
#define VEHICLE_LENGTH 26 /* a vehicle's name, RFC 4648 base32; protocol.md, identity */
#define SHOWN 120         /* bytes of a topic or name in a line: it is a stranger's choice */
#define AGAIN_S 60        /* after a line about a name nothing more is said for so long */
#define SLOTS 4096        /* names that are remembered at a time */

/* What was last said in each slot. Two names of one slot displace one another: that costs
 * lines and hides nobody. */
static struct {
    uint64_t who;
    time_t said_s;
} told[SLOTS];

static mosquitto_plugin_id_t *plugin;

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool is_vehicle(const char *name)
{
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == VEHICLE_LENGTH &&
           name[VEHICLE_LENGTH] == '\0';
}

/* Whether a topic is of the kind `way` ("up" or "down") below `name`, or below any name
 * if that is NULL. */
static bool is_below(const char *topic, const char *name, const char *way)
{
    if(!starts(topic, PREFIX)) return false;
    topic += strlen(PREFIX);
    if(name == NULL){
        topic += strcspn(topic, "/");
    }else{
        if(!starts(topic, name)) return false;
        topic += strlen(name);
    }
    if(*topic++ != '/' || !starts(topic, way)) return false;
    return topic[strlen(way)] == '/';
}

static bool is_own(const char *name, const char *topic, bool is_publish)
{
    if(is_vehicle(name)) return is_below(topic, name, is_publish ? "up" : "down");
    if(starts(name, "ff-bridge-")) return !is_publish || is_below(topic, NULL, "down");
    if(starts(name, "ff-engineer-")) return !is_publish;
    return false;
}

static bool is_news(const char *name, bool is_publish)
{
    uint64_t who = 14695981039346656037u; /* FNV-1a */
    for(const char *c = name; *c != '\0'; c++) who = (who ^ (uint8_t)*c) * 1099511628211u;
    who = (who ^ (is_publish ? 'p' : 's')) * 1099511628211u;

    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    size_t slot = who % SLOTS;
    if(told[slot].who == who && now.tv_sec - told[slot].said_s < AGAIN_S) return false;
    told[slot].who = who;
    told[slot].said_s = now.tv_sec;
    return true;
}

/* Copy what a stranger chose, so that it cannot break a line, a quote or a terminal. */
static const char *shown(char into[SHOWN + 1], const char *text)
{
    size_t n = 0;
    for(; n < SHOWN && text[n] != '\0'; n++){
        unsigned char c = (unsigned char)text[n];
        into[n] = (c <= ' ' || c >= 0x7f || c == '"') ? '?' : text[n];
    }
    into[n] = '\0';
    return into;
}

static int look(int event, void *event_data, void *userdata)
{
    const struct mosquitto_evt_acl_check *asked = event_data;
    bool is_publish = asked->access == MOSQ_ACL_WRITE;
    (void)event;
    (void)userdata;

    if(is_publish || asked->access == MOSQ_ACL_SUBSCRIBE){
        const char *name = mosquitto_client_username(asked->client);
        if(name == NULL) name = "";
        if(asked->topic != NULL && !is_own(name, asked->topic, is_publish) &&
           is_news(name, is_publish)){
            char who[SHOWN + 1], topic[SHOWN + 1];
            mosquitto_log_printf(MOSQ_LOG_WARNING,
                                 "\"%s\" - %s Violation - Subject \"%s\"",
                                 shown(who, name),
                                 is_publish ? "Publish" : "Subscription",
                                 shown(topic, asked->topic));
        }
    }
    return MOSQ_ERR_PLUGIN_DEFER;
}

int mosquitto_plugin_version(int count, const int *versions)
{
    for(int i = 0; i < count; i++){
        if(versions[i] == MOSQ_PLUGIN_VERSION) return MOSQ_PLUGIN_VERSION;
    }
    return -1;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata,
                          struct mosquitto_opt *options, int count)
{
    (void)userdata;
    (void)options;
    (void)count;
    plugin = identifier;
    return mosquitto_callback_register(plugin, MOSQ_EVT_ACL_CHECK, look, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
    (void)userdata;
    (void)options;
    (void)count;
    return mosquitto_callback_unregister(plugin, MOSQ_EVT_ACL_CHECK, look, NULL);
}

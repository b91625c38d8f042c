// Parses a line of nginx's log of its upstream (log_format upstreamlog) into fields.
//
//   NAME to: 127.0.0.1:8000, 127.0.0.1:8001 [GET /polls/ HTTP/1.1] upstream_response_time 0.001, 0.020 msec 1700000000.123 request_time 0.022
//
// A request that was tried again lists each try, the last one being the one that answered; "-" stands for none.
// ECMAScript 5.1: what Filebeat's engine knows.

var LINE = /^(\S+) to: (\S.*?) \[(.*)\] upstream_response_time ([-\d., :]+) msec (\d+)\.(\d{3}) request_time (\d+\.\d+)\r?$/;
var REQUEST = /^(\S+) (.*?)(?: HTTP\/(\S+))?$/;

function tries(list) {
    return list.split(/\s*[,:]\s+/).filter(function (one) {
        return one !== "-" && one !== "";
    });
}

function process(event) {
    var found = LINE.exec(event.Get("message"));
    if (found === null) {
        event.Put("error.message", "not a line of log_format upstreamlog");
        return;
    }
    var backends = tries(found[2]), times = found[4].split(/\s*[,:]\s+/), last = times[times.length - 1];
    event.Put("nginx.upstream.attempts", backends.length);
    if (backends.length > 0) {
        event.Put("nginx.upstream.backend", backends[backends.length - 1]);
        event.Put("nginx.upstream.tried", backends);
    }
    if (last !== "-") {
        event.Put("nginx.upstream.response_time", parseFloat(last));
    }
    event.Put("nginx.upstream.request_time", parseFloat(found[7]));
    var request = REQUEST.exec(found[3]);
    if (request !== null) {
        event.Put("http.request.method", request[1]);
        event.Put("url.original", request[2]);
        if (request[3]) {
            event.Put("http.version", request[3]);
        }
    }
    event.Put("@timestamp", new Date(Number(found[5]) * 1000 + Number(found[6])));
    event.Delete("message");
}

function check(line, expected) {
    var event = new Event({message: line});
    process(event);
    Object.keys(expected).forEach(function (name) {
        var got = event.Get(name);
        if (String(got) !== String(expected[name])) {
            throw line + ": " + name + " is " + got + ", expected " + expected[name];
        }
    });
}

// Filebeat runs this when it loads the script: a change that breaks one of these keeps the new configuration from being used.
function test() {
    check("polls to: 127.0.0.1:8000 [GET /polls/?a=[1] HTTP/1.1] upstream_response_time 0.012 msec 1700000000.123 request_time 0.013", {
        "nginx.upstream.backend": "127.0.0.1:8000", "nginx.upstream.attempts": 1, "nginx.upstream.response_time": 0.012,
        "nginx.upstream.request_time": 0.013, "http.request.method": "GET", "url.original": "/polls/?a=[1]", "message": null
    });
    check("polls to: 127.0.0.1:8000, 127.0.0.1:8001 [POST /polls/1/vote/ HTTP/2.0] upstream_response_time -, 0.120 msec 1700000000.123 request_time 0.122", {
        "nginx.upstream.backend": "127.0.0.1:8001", "nginx.upstream.attempts": 2, "nginx.upstream.response_time": 0.12,
        "nginx.upstream.tried": "127.0.0.1:8000,127.0.0.1:8001", "http.version": "2.0"
    });
    check("polls to: [::1]:8000 [GET / HTTP/1.1] upstream_response_time 0.012 msec 1700000000.123 request_time 0.013", {
        "nginx.upstream.backend": "[::1]:8000"
    });
    check("polls to: - [GET / HTTP/1.1] upstream_response_time - msec 1700000000.123 request_time 0.000", {
        "nginx.upstream.backend": null, "nginx.upstream.attempts": 0, "nginx.upstream.response_time": null
    });
    check("polls to: - [] upstream_response_time - msec 1700000000.123 request_time 0.000", {
        "http.request.method": null, "error.message": null
    });
    check("something else", {"error.message": "not a line of log_format upstreamlog", "message": "something else"});
}

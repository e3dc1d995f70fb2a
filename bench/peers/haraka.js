// A plugin for Haraka: everybody on this machine may relay, nobody's name is asked for, and all mail goes to one next
// hop, which outbound.ini names. It goes there out of Haraka's own queue: nothing here delivers.
'use strict'

let next_hop

exports.register = function () {
    const { next_host, next_port } = this.config.get('outbound.ini').main
    next_hop = { priority: 0, exchange: next_host, port: Number(next_port) }
}

exports.hook_lookup_rdns = function (next, connection) {
    connection.relaying = true
    next(OK, 'localhost')
}

exports.hook_rcpt = function (next) {
    next(OK)
}

exports.hook_get_mx = function (next) {
    next(OK, next_hop)
}

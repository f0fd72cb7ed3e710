#!/bin/sh
# What udhcpc calls with its news.
[ "$1" = bound ] || exit 0
ip address add "$ip/${mask:-24}" dev "$interface"
for address in $router; do
    ip route add default via "$address" dev "$interface"
    break
done
for address in $dns; do
    echo "nameserver $address"
done > /etc/resolv.conf

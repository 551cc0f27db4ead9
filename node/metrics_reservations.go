package node

import "github.com/prometheus/client_golang/prometheus"

var (
	descReservationsHeld    = desc("reservations_held", "Reservations known here, by state: open, settled, freed at the deadline, or waiting: settled before they were heard of.", "state")
	descReservations        = desc("reservations_total", "Requests to reserve and to settle, by result; freed: estimates that this node gave back, as nobody settled them.", "result")
	descReservationsRefused = desc("reservations_refused_total", "Reservations of peers and stores that were not taken over, by reason.", "reason")
)

// reservationsCollector tells what the table of reservations counts.
type reservationsCollector struct{ r *reservations }

// Describe sends nothing, as statsCollector's.
func (reservationsCollector) Describe(chan<- *prometheus.Desc) {}

func (c reservationsCollector) Collect(out chan<- prometheus.Metric) {
	held, n := c.r.inStates(), &c.r.counts
	for state, name := range [reservationStates]string{"open", "settled", "freed", "waiting"} {
		out <- prometheus.MustNewConstMetric(descReservationsHeld, prometheus.GaugeValue, float64(held[state]), name)
	}
	for _, it := range []struct {
		d     *prometheus.Desc
		label string
		count uint64
	}{
		{descReservations, "reserved", n.reserved.Load()}, {descReservations, "refused", n.refused.Load()},
		{descReservations, "settled", n.settled.Load()}, {descReservations, "repeated", n.repeated.Load()},
		{descReservations, "contradicted", n.contradicted.Load()}, {descReservations, "full", n.full.Load()},
		{descReservations, "freed", n.freed.Load()},
		{descReservationsRefused, "clock", n.early.Load()}, {descReservationsRefused, "memory", n.unkept.Load()},
	} {
		out <- prometheus.MustNewConstMetric(it.d, prometheus.CounterValue, float64(it.count), it.label)
	}
}

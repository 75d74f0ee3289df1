/* step: the rows of a step, which a test adds one by one, and the memory that they stand in. */
#ifndef PG_TEST_STEP_H
#define PG_TEST_STEP_H

#include "../../kernels/op.h"

#include <vector>

struct step_rows {
    std::vector<int32_t> token, pos, seq, sampled;
    std::vector<std::vector<int32_t>> page; /* of each sequence */
    std::vector<const int32_t *> page_list;
    pg_rows rows = {};

    void add(int32_t id, int s, int p)
    {
        token.push_back(id);
        seq.push_back(s);
        pos.push_back(p);
    }
    /* Rows and pages are all there. The first n_prefill rows are a prompt, whose last one samples, as each of the others
     * does; or (samples false) none. */
    void finish(int n_prefill, bool samples)
    {
        const int n = (int)token.size();
        for (int i = 0; i < n && samples; i++)
            if (i >= n_prefill - 1) sampled.push_back(i);
        for (const std::vector<int32_t> &list : page) page_list.push_back(list.data());
        rows.n = n;
        rows.n_prefill = n_prefill;
        rows.n_sampled = (int32_t)sampled.size();
        rows.n_sampled_prefill = n_prefill && samples;
        rows.token = token.data();
        rows.pos = pos.data();
        rows.seq = seq.data();
        rows.sampled = sampled.data();
        rows.pages = page_list.data();
    }
};

#endif
